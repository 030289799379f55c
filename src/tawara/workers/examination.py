"""Examines one file: measures its replicas, decides by `model.fsck` what to do, and records the result.

Checks (fsck) and the scrub differ in the files that they examine and in their rules.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Required, TypedDict, Unpack

import structlog

from tawara.metadata import files, fsck, queues
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Cluster, DeviceState, StorageClass
from tawara.model.errors import InvalidReplpolicy
from tawara.model.files import QueuedTask, StoredFile
from tawara.model.fsck import CheckedFile, Code, Depth, Event, FsckRules, FsckVerdict, Search, depth, judge
from tawara.model.policy import Policy, Satisfied, Situation, parse
from tawara.nodes.client import NodeClient
from tawara.workers.runner import ClaimedRow
from tawara.workers.survey import Measured, Survey
from tawara.workers.throttle import Throttle

log = structlog.get_logger(__name__)

ATTEMPTS = 3
"""Examinations of a file whose replicas change meanwhile, before it is deferred."""


class ExaminationOptions(TypedDict, total=False):
    """Options of every worker that examines files."""

    wakeups: Required[Wakeups]
    side_channel_port: int | None
    """Port at which storage nodes report many sizes at once, and digests."""
    rng: random.Random


class Examination:
    """See the module."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        *,
        throttle: str,
        unlogged: Collection[Code] = (),
        **options: Unpack[ExaminationOptions],
    ) -> None:
        """`throttle`: name of the rate that limits reading. `unlogged`: repairs without an entry in the fsck log."""
        port = options.get("side_channel_port")
        self.survey = Survey(view, nodes, side_channel_port=port, throttle=Throttle(view, throttle))
        self._metadata = metadata
        self._view = view
        self._wakeups = options["wakeups"]
        self._rng = options.get("rng") or random.Random()  # noqa: S311 - spreads questions over devices
        self._unlogged = unlogged

    def depth(self, file: StoredFile, rules: FsckRules) -> Depth:
        """How closely to examine the file."""
        known = self._rules_for(file)
        if known is None:
            return Depth.EVERYTHING
        storage_class, policy = known
        return depth(file, storage_class, rules, satisfied=self._satisfied(file, storage_class, policy)(file.devids))

    async def examine(
        self, held: ClaimedRow[QueuedTask], file: StoredFile, rules: FsckRules, measured: Measured | None = None
    ) -> None:
        """Examine all replicas of a file, repair what is possible, and record the result.

        `measured`: lengths that the survey has just found, which are not requested again.
        """
        for _ in range(ATTEMPTS):
            verdict = await self._verdict(file, rules, measured or {})
            measured = None
            if verdict is None:  # its class is not known, or its policy is invalid
                await self._view.refresh()
                continue
            if verdict.again:
                log.debug("check_deferred", fid=file.fid, reason="a device does not answer")
            if await self._metadata.write(
                fsck.record_result, held.claim, file, verdict, now=await self._metadata.clock.seconds()
            ):
                if verdict.events:
                    log.debug("file_checked", fid=file.fid, codes=[event.code.value for event in verdict.events])
                if verdict.replicate:
                    self._wakeups.replicate.notify()
                return
            await self._view.refresh()
            current = await self._metadata.read(files.find_fid, file.fid)
            if current is None:
                await self._metadata.write(queues.finish_tasks, [held.claim])
                return
            file = current
        await self._metadata.write(fsck.defer_check, held.claim, now=await self._metadata.clock.seconds())

    def _rules_for(self, file: StoredFile) -> tuple[StorageClass, Policy] | None:
        """The file's class and its policy; None if the class is not known or the policy is invalid."""
        storage_class = self._view.current.storage_class(file.dmid, file.classid)
        try:
            return (storage_class, parse(storage_class.policy)) if storage_class else None
        except InvalidReplpolicy as error:
            log.warning("policy_invalid", fid=file.fid, reason=str(error))
            return None

    def _dead_satisfy(self, file: StoredFile, storage_class: StorageClass, policy: Policy) -> bool:
        """See CheckedFile."""
        cluster = self._view.current
        dead = [device for devid in file.devids if (device := cluster.devices.get(devid)) and cluster.is_lost(devid)]
        if not dead:
            return False
        counting = {device.devid: replace(device, state=DeviceState.DOWN) for device in dead}
        cluster = replace(cluster, devices={**cluster.devices, **counting})
        return self._satisfied(file, storage_class, policy, cluster)(file.devids)

    def _satisfied(
        self, file: StoredFile, storage_class: StorageClass, policy: Policy, cluster: Cluster | None = None
    ) -> Callable[[Iterable[int]], bool]:
        cluster = cluster or self._view.current

        def satisfied(devids: Iterable[int]) -> bool:
            situation = Situation.of(cluster, devids, storage_class.mindevcount, size=file.length)
            return isinstance(policy.decide(situation, self._rng), Satisfied)

        return satisfied

    async def _verdict(self, file: StoredFile, rules: FsckRules, measured: Measured) -> FsckVerdict | None:
        await self._view.refresh_for(file.devids)
        known = self._rules_for(file)
        if known is None:
            return None
        storage_class, policy = known
        satisfied = self._satisfied(file, storage_class, policy)
        if depth(file, storage_class, rules, satisfied=satisfied(file.devids)) is Depth.ROWS:
            events = (Event(Code.BAD_COUNT),) if rules.miscounted(file) else ()
            return FsckVerdict(events=events, logged=events)
        hashtype = rules.digest_wanted(storage_class, file.checksum)
        seen = await self.survey.look(file, hashtype, measured)
        case = CheckedFile(file, storage_class, rules, seen, satisfied, self._dead_satisfy(file, storage_class, policy))
        verdict = judge(case)
        if isinstance(verdict, Search):
            log.warning("replica_search_started", fid=file.fid)
            verdict = judge(case, searched=True, found=await self.survey.search(file, hashtype, self._rng))
        assert isinstance(verdict, FsckVerdict)
        return replace(verdict, events=tuple(event for event in verdict.events if event.code not in self._unlogged))
