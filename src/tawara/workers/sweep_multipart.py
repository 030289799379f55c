"""Removes the parts of uploads that were completed, aborted or left alone for long, and parts without an upload.

A gateway removes the parts itself when an upload ends; this worker does so after a gateway that was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from tawara.metadata import multipart
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup
from tawara.model import amounts
from tawara.model.multipart import LAPSE, LAPSE_DEFAULT, RESULT_KEPT
from tawara.workers.runner import NoClaims

log = structlog.get_logger(__name__)

PERIOD: Final = 60.0
"""Seconds between two passes."""
SEARCH_PERIOD: Final = 3600
"""Seconds between two searches for uploads that were left alone, and parts without an upload."""


class EndedUpload(NamedTuple):
    """An upload whose parts are to be removed."""

    dmid: int
    upload_id: str


class SweepMultipart(NoClaims):
    """See the module. A unit of work is one upload. Several processes may work at the same one."""

    name = "multipart"

    def __init__(self, metadata: Metadata, view: ClusterView, *, delete_wakeup: Wakeup, period: float = PERIOD) -> None:
        """`period`: seconds between two passes."""
        self._metadata = metadata
        self._view = view
        self._delete_wakeup = delete_wakeup
        self._period = period
        self._last = 0.0
        self._next_search = 0
        self._in_progress: set[EndedUpload] = set()

    async def take(self, limit: int) -> Sequence[EndedUpload]:
        """See Worker."""
        now = await self._metadata.clock.seconds()
        self._last = float(now)
        orphans: list[EndedUpload] = []
        if now >= self._next_search:
            orphans = await self._search(now)
            self._next_search = now + SEARCH_PERIOD
        ended = await self._metadata.read(multipart.ended, limit=limit + len(self._in_progress))
        found = orphans + [EndedUpload(each.dmid, each.upload_id) for each in ended]
        taken = [each for each in found if each not in self._in_progress]
        self._in_progress.update(taken)
        return taken

    async def _search(self, now: int) -> list[EndedUpload]:
        """Abort uploads that were left alone, and drop old results; return uploads of which only parts are left."""
        after = amounts.duration(self._view.current.settings.get(LAPSE) or LAPSE_DEFAULT)
        if after:
            lapsed = await self._metadata.write(multipart.lapse, before=now - after)
            if lapsed:
                log.info("uploads_lapsed", upload_ids=lapsed)
        await self._metadata.write(multipart.forget, now=now)
        found: list[EndedUpload] = []
        for domain in self._view.current.domains.values():
            orphans = await self._metadata.read(multipart.find_orphans, domain.dmid)
            if orphans:
                log.info("parts_without_upload", domain=domain.name, upload_ids=orphans)
            found += [EndedUpload(domain.dmid, each) for each in orphans]
        return found

    async def work(self, item: EndedUpload) -> float | None:
        """See Worker."""
        try:
            now = await self._metadata.clock.seconds()
            while await self._metadata.write(multipart.remove_parts, item.dmid, item.upload_id, now=now):
                self._delete_wakeup.notify()
            await self._metadata.write(multipart.finish, item.upload_id, until=now + RESULT_KEPT)
        finally:
            self._in_progress.discard(item)
        return None

    async def next_due(self) -> float | None:
        """See Worker."""
        return self._last + self._period
