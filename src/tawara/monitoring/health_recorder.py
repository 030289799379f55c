"""Records since when each finding lasts, so that every tracker can tell. Runs in each tracker, once a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

import structlog

from tawara.background import Background
from tawara.client import AsyncClient
from tawara.metadata import cluster, runs
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.errors import TawaraError
from tawara.model.health_codes import HISTORY_PREFIX, RECORD_PERIOD, HealthCode, History, update_histories
from tawara.monitoring.store_health import observe

log = structlog.get_logger(__name__)

_FIRST: Final = 10.0
"""Seconds after the start before the first record: components that start together are not findings."""


class HealthRecorder:
    """Start it after the tracker; stop it before. Each once."""

    def __init__(self, metadata: Metadata, tracker: tuple[str, int], *, period: float = RECORD_PERIOD) -> None:
        """`tracker`: the address of this process's tracker. `period`: seconds between two records."""
        self._metadata, self._tracker, self._period = metadata, tracker, period
        self._recording = Background("health recorder")

    async def start(self) -> None:
        """Start to record."""
        self._recording.start(self._record())

    async def stop(self) -> None:
        """Stop."""
        await self._recording.stop()

    async def _record(self) -> None:
        await asyncio.sleep(min(_FIRST, self._period))
        while True:
            try:
                await self.record_now()
            except TawaraError as error:
                log.info("health_not_recorded", reason=error.message)
            await asyncio.sleep(self._period)

    async def record_now(self) -> None:
        """Record the present findings. Raises TrackerUnreachable, Db."""
        async with AsyncClient("{}:{}".format(*self._tracker)) as client:
            seen = await observe(client)
        now = await self._metadata.clock.seconds()
        await self._metadata.write(save_histories, {each.code for each in seen.findings}, now=now)


async def save_histories(tx: Transaction, found: Collection[HealthCode], *, now: int) -> None:
    """Record the codes that are `found` at `now` (unix seconds), and remove those that have ended. Idempotent."""
    known = {}
    for field, value in (await runs.settings(tx, HISTORY_PREFIX)).items():
        code, history = field.removeprefix(HISTORY_PREFIX), History.parse(value)
        if code in HealthCode.__members__ and history is not None:
            known[HealthCode[code]] = history
    for code, changed in update_histories(found, known, now).items():
        await cluster.set_setting(tx, f"{HISTORY_PREFIX}{code}", None if changed is None else str(changed))
