"""One process's view of the cluster: the rows as last read, and the monitor's observations.

Decisions about files read the cluster only from here, as in MogileFS (docs/mogilefs.md 1), so that a request costs no
query for hosts and devices. `Metadata` is authoritative; `refresh` updates the view from it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

from tawara.metadata import cluster
from tawara.metadata.contract import Metadata
from tawara.model.cluster import Cluster, Observation
from tawara.model.liveness import LivenessRules

_UNKNOWN_NAME_INTERVAL: Final = 0.2
"""Minimum seconds between two reads for names that are unknown, so that a flood of them costs little."""


class ClusterView:
    """The current `Cluster` of one process. Owned by its event loop."""

    def __init__(
        self,
        metadata: Metadata,
        *,
        min_free_mb: int = 100,
        default_mindevcount: int = 2,
        rules: LivenessRules = LivenessRules(),  # noqa: B008 - a frozen value
    ) -> None:
        self._metadata = metadata
        self._min_free_mb = min_free_mb
        self._default_mindevcount = default_mindevcount
        self.rules = rules
        """The rules by which unreachable devices are presumed dead."""
        self.current = Cluster()
        self._reads_begun = 0
        self._read = 0
        """Number of the read from which `current` comes."""
        self._observed = asyncio.Event()
        self._next_read: asyncio.Future[None] | None = None
        """The read for unknown names that has not begun yet."""
        self._names_read = -math.inf
        """When the last one began, by the event loop's clock."""
        self.refresh_devices: Callable[[], Awaitable[None]] | None = None
        """Set by the monitor: runs one round at once (reads the rows again and checks every device)."""

    async def refresh(self) -> Cluster:
        """Read the rows again, keeping the observations. Of overlapping reads, the one that started last counts."""
        self._reads_begun += 1
        number = self._reads_begun
        rows = await self._metadata.read(
            cluster.load, min_free_mb=self._min_free_mb, default_mindevcount=self._default_mindevcount
        )
        if number > self._read:
            self._read = number
            self.current = rows.with_observations(self.current.observed)
        return self.current

    async def refresh_for_name(self, domain: str, storage_class: str = "") -> Cluster:
        """Return the cluster, refreshed if it lacks this domain (empty: always) or class (empty: any).

        Another process may have created them a moment ago. Requests for unknown names share one read at a time, at
        most one in _UNKNOWN_NAME_INTERVAL seconds. Raises Db.
        """
        if not self.current.has_name(domain, storage_class):
            if self._next_read is None:
                self._next_read = asyncio.ensure_future(self._read_for_names())
            await asyncio.shield(self._next_read)
        return self.current

    async def _read_for_names(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._names_read + _UNKNOWN_NAME_INTERVAL - loop.time())
        self._next_read = None  # who asks from now on needs a read that begins later
        self._names_read = loop.time()
        await self.refresh()

    async def refresh_for(self, devids: Iterable[int]) -> Cluster:
        """Return the cluster, refreshed if any of these devices seems lost or was not observed yet.

        A view is some seconds old, and a device may be new: only a device that seems lost after a refresh is lost.
        Raises Db.
        """
        wanted = list(devids)
        if any(map(self.current.is_lost, wanted)):
            await self.refresh()
        if any(self.current.can_read_from(devid) and devid not in self.current.observed for devid in wanted):
            await self.renew()
        return self.current

    def observe(self, observed: Mapping[int, Observation]) -> None:
        """Store the monitor's observations of a finished round."""
        self.current = self.current.with_observations(observed)
        self._observed.set()

    @property
    def is_observed(self) -> bool:
        """Whether the monitor's first round has ended."""
        return self._observed.is_set()

    async def wait_observed(self) -> None:
        """Wait for the end of the monitor's first round, before which no device can be chosen."""
        await self._observed.wait()

    async def renew(self) -> None:
        """Update rows and observations, as every changing admin command does before it responds."""
        if self.refresh_devices is None:
            await self.refresh()
        else:
            await self.refresh_devices()
