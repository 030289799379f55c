"""The versions of the database's tables that this program works with."""

from __future__ import annotations

from typing import Final

MOGILEFS: Final = 17
"""`server_settings.schema_version`, the version that MogileFS trackers accept."""
TAWARA: Final = 12
"""`server_settings.tawara_schema_version`, of the tables `tawara_*`: the version of the last file in `history/`."""
