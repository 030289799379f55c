"""What this process knows of the cluster: the rows as last read, with what its monitor observes.

Decisions about files read the cluster only from here, as the original does (docs/mogilefs.md 1), so that a request
costs no query for hosts and devices. `Metadata` stays the truth; `refresh` brings the view up to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from tawara.metadata import cluster
from tawara.metadata.contract import Metadata
from tawara.model.cluster import Cluster, Observation
from tawara.model.liveness import LivenessRules


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
        """By which devices that do not answer are presumed dead."""
        self.current = Cluster()
        self._reads_begun = 0
        self._read = 0
        """Which of the reads that were begun `current` comes from."""
        self._observed = asyncio.Event()
        self.look_again: Callable[[], Awaitable[None]] | None = None
        """Set by the monitor: runs one round at once (re-reads the rows and looks at every device)."""

    async def refresh(self) -> Cluster:
        """Read the rows again, keeping the observations. Of reads that overlap, the one that was begun last counts."""
        self._reads_begun += 1
        number = self._reads_begun
        rows = await self._metadata.read(
            cluster.load, min_free_mb=self._min_free_mb, default_mindevcount=self._default_mindevcount
        )
        if number > self._read:
            self._read = number
            self.current = rows.with_observations(self.current.observed)
        return self.current

    async def look_for(self, devids: Iterable[int]) -> Cluster:
        """The cluster, looked at again if any of these devices seems lost, or was not observed yet.

        A view is some seconds old, and a device may be new: only one that is lost afterwards is lost. Raises Db.
        """
        wanted = list(devids)
        if any(map(self.current.is_lost, wanted)):
            await self.refresh()
        if any(self.current.can_read_from(devid) and devid not in self.current.observed for devid in wanted):
            await self.renew()
        return self.current

    def observe(self, observed: Mapping[int, Observation]) -> None:
        """Take over what the monitor saw in a finished round."""
        self.current = self.current.with_observations(observed)
        self._observed.set()

    async def wait_observed(self) -> None:
        """Wait until the monitor has finished its first round; before it no device can be chosen."""
        await self._observed.wait()

    async def renew(self) -> None:
        """Bring rows and observations up to date, as every changing admin command does before it answers."""
        if self.look_again is None:
            await self.refresh()
        else:
            await self.look_again()
