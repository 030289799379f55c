"""Cache of the uploads that this process opened recently, so that closing one needs no look-up.

Most uploads are closed soon, by the tracker that opened them. An open upload never changes, and the transaction that
closes it checks that it is still open.
"""

from __future__ import annotations

from typing import Final

from tawara.model.files import Upload

MOST_CACHED: Final = 1000
"""Maximum uploads in the cache. Beyond that the oldest is dropped, and looked up in the database when it is closed."""


class RecentUploads:
    """Open uploads by fid. Losing it costs look-ups only."""

    def __init__(self) -> None:
        self._uploads: dict[int, Upload] = {}

    def add(self, upload: Upload) -> None:
        """Add an upload whose opening is committed."""
        self._uploads[upload.fid] = upload
        if len(self._uploads) > MOST_CACHED:
            del self._uploads[next(iter(self._uploads))]

    def take(self, fid: int) -> Upload | None:
        """Remove the upload from the cache and return it, None if it is not cached; its fid is then looked up."""
        return self._uploads.pop(fid, None)
