"""docs/settings.md: complete and up to date."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tawara.cli.configuration import Configuration
from tawara.cli.settings_page import render_page
from tawara.model.settings import SETTINGS

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_committed_page_is_up_to_date() -> None:
    """The committed page is what `make docs` writes."""
    assert PAGE.read_text() == render_page(), "run `make docs`"


def test_the_page_has_every_setting() -> None:
    """The page has a row for each configuration field, in its section, and for each cluster setting."""
    configuration, cluster = render_page().split("## Cluster settings")
    sections = {part.partition("]")[0]: part for part in configuration.split("### [")[1:]}
    for section in msgspec.structs.fields(Configuration):
        for field in msgspec.structs.fields(section.type):
            assert f"| `{field.name}` |" in sections[section.name]
    for setting in SETTINGS:
        assert f"| `{setting.name}` |" in cluster


def test_the_page_says_default_unit_and_meaning() -> None:
    """A row has the default, what values are accepted with their unit, and the meaning."""
    page = render_page()
    assert "| `idle` | `3600` | a whole number from 0 to 315360000 (seconds) | A connection without a request" in page
    assert "| `tawara_scrub_period` | `30d` | s, m, h, d, w | " in page
