"""The uploads that this process opened lately, so that closing one needs no look-up first.

Nearly always the tracker that opened an upload closes it, too, a moment later. What is known of an upload never changes
while it is open, and whether it still is, closing finds out by itself.
"""

from __future__ import annotations

from typing import Final

from tawara.model.files import Upload

REMEMBERED: Final = 1000
"""How many uploads are remembered; beyond that the oldest is forgotten, and looked up when it is closed."""


class RecentUploads:
    """A memory that may be lost at any time."""

    def __init__(self) -> None:
        self._uploads: dict[int, Upload] = {}

    def remember(self, upload: Upload) -> None:
        """It was opened, and that is committed."""
        self._uploads[upload.fid] = upload
        if len(self._uploads) > REMEMBERED:
            del self._uploads[next(iter(self._uploads))]

    def take(self, fid: int) -> Upload | None:
        """The upload, if it is remembered; once, for whatever comes of it, the database knows better then."""
        return self._uploads.pop(fid, None)
