"""Creates, starts and stops all workers of a process, and reports what they do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from tawara.background import Background
from tawara.metadata import leases
from tawara.metadata.contract import Metadata
from tawara.metadata.fid_locks import FidLocks
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup, Wakeups
from tawara.model.limits import Limits
from tawara.model.pace import COPIED
from tawara.nodes.client import NodeClient
from tawara.workers import copier, examination
from tawara.workers.check_files import CheckFiles
from tawara.workers.cleanup_orphans import PERIOD as SWEEP_PERIOD
from tawara.workers.cleanup_orphans import CleanupOrphans
from tawara.workers.delete_files import DeleteFiles
from tawara.workers.drain_devices import DrainDevices
from tawara.workers.drain_failing import DrainFailing
from tawara.workers.journal_writer import PERIOD as NAMES_PERIOD
from tawara.workers.journal_writer import JournalWriter
from tawara.workers.lock_fids import LockFids
from tawara.workers.pace_recorder import PaceRecorder
from tawara.workers.queue_changed_classes import QueueChangedClasses
from tawara.workers.reap_dead import ReapDead
from tawara.workers.rebalance_files import RebalanceFiles
from tawara.workers.replicate_absent import ReplicateAbsent
from tawara.workers.replicate_files import ReplicateFiles
from tawara.workers.retry_deferred import RetryDeferred
from tawara.workers.runner import LEASE, Runner, Status, Worker
from tawara.workers.scrub_files import ScrubFiles
from tawara.workers.sweep_multipart import SweepMultipart
from tawara.workers.throttle import Throttle
from tawara.workers.update_placement_counts import MAX_AGE, MAX_AGE_WITH_MOGILEFSD, UpdatePlacementCounts
from tawara.workers.wakeup_poller import WakeupPoller

_LIMITS = Limits()
SMALL_PER_LARGE = 4
"""Small files that count as one large file for the number of concurrent copies."""
JOURNALS = 4
"""Journals written at the same time."""
CLEANUPS = 4
"""Abandoned copies removed at the same time."""
CHECKED = 3
"""Batches of files checked at the same time."""
SCRUBBED = 2
"""Files scrubbed at the same time: few, since a scrub is never urgent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkersOptions:
    """Concurrency, periods and selection of the workers."""

    replicate: int = 8
    """Files copied (or moved) at the same time; four small files count as one."""
    delete: int = 16
    """Files deleted at the same time."""
    timeout: float = 5.0
    """Seconds after which an idle worker looks for work that other processes have queued."""
    lease: int = LEASE
    """Seconds after which the work of a process that died is claimed by another."""
    upload_open: int = _LIMITS.upload_open
    """Seconds after which an upload that is not closed expires."""
    sweep_period: float = SWEEP_PERIOD
    """Seconds between two passes of `cleanup_orphans`."""
    names_period: float = NAMES_PERIOD
    """Seconds between two passes of `journal_writer`."""
    side_channel_port: int | None = None
    """Port at which storage nodes report many sizes at once, and digests."""
    only: str | None = None
    """The name of the only worker to run; None for all."""


class Workers:
    """The workers of this process. Any number of processes may run workers; any may be killed at any moment."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        wakeups: Wakeups,
        options: WorkersOptions = WorkersOptions(),
        *,
        alone: bool = False,
        locks: FidLocks | None = None,
    ) -> None:
        """`alone`: this is the only process with workers, so leases of an earlier process are taken over at once.

        `locks`: used next to a running mogilefsd, one for each fid in progress; not together with `alone`.
        """
        assert not (alone and locks)
        self._metadata = metadata
        self._view = view
        self._options = options
        self._alone = alone
        self._locks = locks
        self._runners: list[Runner[Any]] = []
        self._starting = Background("workers: waiting for the monitor")
        copying: copier.CopierOptions = {
            "delete_wakeup": wakeups.delete,
            "large": options.replicate,
            "side_channel_port": options.side_channel_port,
            "lease": options.lease,
        }
        self._copier = ReplicateFiles(metadata, view, nodes, **copying)
        self._add_writers(nodes, wakeups, copying)
        self._add_checkers(nodes, wakeups)
        assert self._runners, f"there is no worker {options.only!r}"
        self._pace = PaceRecorder(metadata, self._progress)
        self._wakeup_poller = None if alone else WakeupPoller(metadata, wakeups)

    def _add_writers(self, nodes: NodeClient, wakeups: Wakeups, copying: copier.CopierOptions) -> None:
        """Add the workers that write or delete the bytes of a fid."""
        metadata, view, wanted, lease = self._metadata, self._view, self._options, self._options.lease
        copies = wanted.replicate * SMALL_PER_LARGE
        self._add_locking(self._copier, copies, wakeups.replicate)
        throttle = Throttle(view, "rebalance")  # one for both: the rate is that of the process
        rebalance = RebalanceFiles(metadata, view, nodes, throttle=throttle, **copying)
        drain = DrainDevices(metadata, view, nodes, throttle=throttle, **copying)
        self._add_locking(rebalance, copies, wakeups.rebalance)
        self._add_locking(drain, copies, wakeups.drain)
        self._add_locking(DeleteFiles(metadata, view, nodes, lease=lease), wanted.delete, wakeups.delete)
        uploads, period = wanted.upload_open, wanted.sweep_period
        cleanup = CleanupOrphans(
            metadata, view, nodes, wakeups=wakeups, upload_open=uploads, period=period, lease=lease
        )
        self._add_locking(cleanup, CLEANUPS, None)

    def _add_checkers(self, nodes: NodeClient, wakeups: Wakeups) -> None:
        """Add the workers that examine files, queue work and write journals."""
        metadata, view, wanted, lease = self._metadata, self._view, self._options, self._options.lease
        examining: examination.ExaminationOptions = {"wakeups": wakeups, "side_channel_port": wanted.side_channel_port}
        self._add(CheckFiles(metadata, view, nodes, lease=lease, **examining), CHECKED, wakeups.fsck, files_in=len)
        self._add(ScrubFiles(metadata, view, nodes, lease=lease, **examining), SCRUBBED, wakeups.scrub, urgent=False)
        self._add(JournalWriter(metadata, view, nodes, period=wanted.names_period, lease=lease), JOURNALS, None)
        self._add(RetryDeferred(metadata, view, wakeups), 1, None)
        self._add(ReplicateAbsent(metadata, view, replicate_wakeup=wakeups.replicate), 1, None)
        self._add(ReapDead(metadata, view, replicate_wakeup=wakeups.replicate), 1, None)
        self._add(QueueChangedClasses(metadata, view, replicate_wakeup=wakeups.replicate), 1, None)
        self._add(
            UpdatePlacementCounts(metadata, view, max_age=MAX_AGE_WITH_MOGILEFSD if self._locks else MAX_AGE), 1, None
        )
        self._add(SweepMultipart(metadata, view, delete_wakeup=wakeups.delete), 1, None)
        self._add(DrainFailing(metadata, view, drain_wakeup=wakeups.drain), 1, None)

    def _add_locking(self, worker: Worker[Any], concurrency: int, wakeup: Wakeup | None) -> None:
        """Add a worker that changes fids, with mogilefsd's locks if it runs as well."""
        self._add(LockFids(worker, self._locks, self._metadata) if self._locks else worker, concurrency, wakeup)

    def _add(
        self, worker: Worker[Any], concurrency: int, wakeup: Wakeup | None, *, urgent: bool = True, **options: Any
    ) -> None:
        if self._options.only not in (None, worker.name):
            return
        timeout = self._options.timeout
        self._runners.append(
            Runner(
                worker,
                concurrency=concurrency,
                timeout=timeout if wakeup and urgent else max(timeout, 60.0),
                wakeup=wakeup,
                lease=self._options.lease,
                now=self._metadata.clock.guess,
                may_work=lambda: not self._view.current.stale,
                **options,
            )
        )

    async def start(self) -> None:
        """Start working once the cluster has been observed; returns before that. Raises Db."""
        if self._alone:
            await self._metadata.write(leases.release_all, now=await self._metadata.clock.seconds())
        self._starting.start(self._start())

    async def _start(self) -> None:
        await self._view.wait_observed()
        for runner in self._runners:
            runner.start()
        self._pace.start()
        if self._wakeup_poller is not None:
            self._wakeup_poller.start()

    async def stop(self) -> None:
        """Finish or release the claimed work, within 5 seconds."""
        await self._starting.stop()
        if self._wakeup_poller is not None:
            await self._wakeup_poller.stop()
        await asyncio.gather(self._pace.stop(), *(runner.stop() for runner in self._runners))

    def _progress(self) -> list[Status]:
        """As `status`, with the bytes that were copied while `replicate` was busy."""
        found = self.status()
        copying = [each for each in found if each.name == ReplicateFiles.name]
        return found + [replace(each, name=COPIED, done=self._copier.copied_bytes, failed=0) for each in copying]

    @property
    def copied_bytes(self) -> int:
        """Bytes that were copied since the start."""
        return self._copier.copied_bytes

    def status(self) -> list[Status]:
        """The state of each worker."""
        return [runner.status for runner in self._runners]
