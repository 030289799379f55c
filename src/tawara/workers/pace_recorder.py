"""Records the throughput of this process's workers in the database, for the status that trackers report."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence

import structlog

from tawara.background import Background
from tawara.metadata import pace as rows
from tawara.metadata.contract import Metadata
from tawara.model.errors import TawaraError
from tawara.model.pace import BUSY_PERIOD, IDLE_PERIOD, WorkMeter, WorkPace
from tawara.workers.runner import Status

log = structlog.get_logger(__name__)


class PaceRecorder:
    """See the module. Records every ten seconds while there is work, otherwise once a minute."""

    def __init__(self, metadata: Metadata, status: Callable[[], Sequence[Status]]) -> None:
        self._metadata = metadata
        self._status = status
        self._process = secrets.token_hex(8)
        self._progress: dict[str, WorkMeter] = {}
        self._recorded = 0.0
        self._recording = Background("pace recorder")

    def start(self) -> None:
        """Start recording."""
        self._recording.start(self._record_forever())

    async def stop(self) -> None:
        """Record that this process has stopped. Takes two seconds at most."""
        if not self._recording.started:
            return
        await self._recording.stop()
        with contextlib.suppress(TawaraError, TimeoutError):
            async with asyncio.timeout(2):
                await self._metadata.write(rows.record_end, self._process, now=await self._metadata.clock.seconds())

    async def _record_forever(self) -> None:
        done: dict[str, int] = {}
        while True:
            status = self._status()
            now_done = {each.name: each.done + each.failed for each in status}
            if now_done != done or time.monotonic() - self._recorded >= IDLE_PERIOD:
                try:
                    await self._record(status)
                    done = now_done
                except TawaraError as error:
                    log.debug("pace_recording_failed", reason=str(error))
            await asyncio.sleep(BUSY_PERIOD)

    async def _record(self, status: Sequence[Status]) -> None:
        seconds = time.monotonic() - self._recorded if self._recorded else BUSY_PERIOD
        paces: list[WorkPace] = []
        progress: dict[str, WorkMeter] = {}
        for each in status:
            progress[each.name], rate = self._progress.get(each.name, WorkMeter()).next(each.done, each.busy, seconds)
            paces.append(WorkPace(each.name, each.done, each.failed, rate, progress[each.name].pace))
        await self._metadata.write(rows.record, self._process, paces, now=await self._metadata.clock.seconds())
        self._progress, self._recorded = progress, time.monotonic()
