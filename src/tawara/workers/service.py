"""All workers of one process: made, started, stopped and looked at together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tawara.background import Background
from tawara.client.nodes import NodeClient
from tawara.metadata import leases
from tawara.metadata.bell import Bell, Bells
from tawara.metadata.contract import Metadata
from tawara.metadata.fid_locks import FidLocks
from tawara.metadata.view import ClusterView
from tawara.model.limits import Limits
from tawara.model.pace import COPIED
from tawara.workers.beside_mogilefsd import BesideMogilefsd
from tawara.workers.census import Census
from tawara.workers.copier import Options
from tawara.workers.delete import Delete
from tawara.workers.drain import Drain
from tawara.workers.failing import Failing
from tawara.workers.fsck import Fsck
from tawara.workers.hasten import Hasten
from tawara.workers.listener import Listener
from tawara.workers.pace import PaceKeeper
from tawara.workers.reap import GRACE, Reap
from tawara.workers.rebalance import Rebalance
from tawara.workers.replace import Replace
from tawara.workers.replicate import Replicate
from tawara.workers.runner import LEASE, Runner, Status, Worker
from tawara.workers.scribe import PERIOD as NAMES_PERIOD
from tawara.workers.scribe import Scribe
from tawara.workers.scrub import Scrub
from tawara.workers.sweep import PERIOD, Sweep

_LIMITS = Limits()
SMALL_PER_LARGE = 4
"""How many small files are copied in the time and place of a large one."""
JOURNALS = 4
"""On how many devices names are written at the same time."""
BATCHES = 3
"""How many batches of files are checked at the same time."""
SCRUBBED = 2
"""How many files are scrubbed at the same time: a few, for that is never urgent."""


class Workers:
    """Background care for the store. Any number of processes may have one; any may be killed at any moment."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        bells: Bells,
        *,
        replicate: int = 8,
        delete: int = 16,
        patience: float = 5.0,
        upload_open: int = _LIMITS.upload_open,
        sweep_period: float = PERIOD,
        reap_grace: float = GRACE,
        names_period: float = NAMES_PERIOD,
        lease: int = LEASE,
        alone: bool = False,
        side_channel_port: int | None = None,
        locks: FidLocks | None = None,
    ) -> None:
        """How many files are copied (or moved) and deleted at the same time; four small files count as one.

        `patience`: seconds after which an idle worker looks for work that other processes queued. `lease`: seconds
        after which work is taken over from a worker that died. `alone`: this is the only process with workers, so that
        what a former one left half-done is taken over at once. `side_channel_port`: where storage nodes are asked for
        many sizes at once, and for digests. `locks`: held, one a fid, beside a running mogilefsd, so not when `alone`.
        """
        assert not (alone and locks)
        self._metadata = metadata
        self._view = view
        self._alone = alone
        self._patience = patience
        self._runners: list[Runner[Any]] = []
        self._lease = lease
        self._locks = locks
        self._starting = Background("workers: waiting for the monitor")
        copying: Options = {
            "delete_bell": bells.delete,
            "large": replicate,
            "side_channel_port": side_channel_port,
            "lease": lease,
        }
        copier = Replicate(metadata, view, nodes, **copying)
        self._add_locking(copier, replicate * SMALL_PER_LARGE, bells.replicate)
        self._add_locking(Delete(metadata, view, nodes, lease=lease), delete, bells.delete)
        sweeper = Sweep(metadata, view, nodes, bells=bells, upload_open=upload_open, period=sweep_period, lease=lease)
        self._add_locking(sweeper, 4, None)
        self._add(Hasten(metadata, view, bells), 1, None)
        checker = Fsck(metadata, view, nodes, bells=bells, side_channel_port=side_channel_port, lease=lease)
        self._add(checker, BATCHES, bells.fsck, files_in=len)
        scrubber = Scrub(metadata, view, nodes, bells=bells, side_channel_port=side_channel_port, lease=lease)
        self._add(scrubber, SCRUBBED, bells.scrub, urgent=False)
        mover = Rebalance(metadata, view, nodes, **copying)
        self._add_locking(mover, replicate * SMALL_PER_LARGE, bells.rebalance)
        self._add(Replace(metadata, view, replicate_bell=bells.replicate), 1, None)
        emptier = Drain(metadata, view, nodes, **copying)
        self._add_locking(emptier, replicate * SMALL_PER_LARGE, bells.drain)
        self._add(Scribe(metadata, view, nodes, period=names_period, lease=lease), JOURNALS, None)
        self._add(Reap(metadata, view, replicate_bell=bells.replicate, grace=reap_grace), 1, None)
        self._add(Census(metadata), 1, None)
        self._add(Failing(metadata, view, drain_bell=bells.drain), 1, None)
        self._copier = copier
        self._pace = PaceKeeper(metadata, self._progress)
        self._listener = None if alone else Listener(metadata, bells)

    def _add_locking(self, worker: Worker[Any], concurrency: int, bell: Bell | None) -> None:
        """Add a worker that writes or deletes bytes of a fid."""
        self._add(BesideMogilefsd(worker, self._locks, self._metadata) if self._locks else worker, concurrency, bell)

    def _add(
        self, worker: Worker[Any], concurrency: int, bell: Bell | None, *, urgent: bool = True, **options: Any
    ) -> None:
        patience = self._patience if bell and urgent else max(self._patience, 60.0)
        self._runners.append(
            Runner(
                worker,
                concurrency=concurrency,
                patience=patience,
                bell=bell,
                lease=self._lease,
                now=self._metadata.clock.guess,
                **options,
            )
        )

    async def start(self) -> None:
        """Begin to work as soon as the cluster has been observed; does not wait for that. Raises Db."""
        if self._alone:
            await self._metadata.write(leases.take_over, now=await self._metadata.clock.seconds())
        self._starting.start(self._start())

    async def _start(self) -> None:
        await self._view.wait_observed()
        for runner in self._runners:
            runner.start()
        self._pace.start()
        if self._listener is not None:
            self._listener.start()

    async def stop(self) -> None:
        """Finish or give back what was claimed; done within 5 seconds."""
        await self._starting.stop()
        if self._listener is not None:
            await self._listener.stop()
        await asyncio.gather(self._pace.stop(), *(runner.stop() for runner in self._runners))

    def _progress(self) -> list[Status]:
        """The same, and the bytes that were copied in the time that `replicate` was busy."""
        found = self.status()
        copying = next(each for each in found if each.name == Replicate.name)
        return [*found, replace(copying, name=COPIED, done=self._copier.copied_bytes, failed=0)]

    def status(self) -> list[Status]:
        """What each worker is doing."""
        return [runner.status for runner in self._runners]
