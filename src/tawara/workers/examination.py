"""Looking closely at one file: what is seen of its replicas, what follows by `model.fsck`, and writing that down.

Checks (fsck) and the continuous scrub differ in which files they look at, and in their rules.
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

LOOKS = 3
"""How often a file is looked at anew when its replicas change meanwhile, before it is put off."""


class ExaminationOptions(TypedDict, total=False):
    """What every worker that examines files may be told."""

    wakeups: Required[Wakeups]
    side_channel_port: int | None
    """Where storage nodes are asked for many sizes at once, and compute digests."""
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
        untold: Collection[Code] = (),
        **options: Unpack[ExaminationOptions],
    ) -> None:
        """`throttle`: which rate the bytes that are read keep to. `untold`: what is done without a line in the log."""
        port = options.get("side_channel_port")
        self.survey = Survey(view, nodes, side_channel_port=port, throttle=Throttle(view, throttle))
        self._metadata = metadata
        self._view = view
        self._wakeups = options["wakeups"]
        self._rng = options.get("rng") or random.Random()  # noqa: S311 - spreads questions over devices
        self._untold = untold

    def depth(self, file: StoredFile, rules: FsckRules) -> Depth:
        """How closely the file has to be looked at."""
        known = self._rules_for(file)
        if known is None:
            return Depth.EVERYTHING
        storage_class, policy = known
        return depth(file, storage_class, rules, satisfied=self._satisfied(file, storage_class, policy)(file.devids))

    async def examine(
        self, held: ClaimedRow[QueuedTask], file: StoredFile, rules: FsckRules, measured: Measured | None = None
    ) -> None:
        """Look at all of a file, and write down what follows.

        `measured`: lengths that the survey has found a moment ago, which the first look need not ask for again.
        """
        for _ in range(LOOKS):
            verdict = await self._verdict(file, rules, measured or {})
            measured = None
            if verdict is None:  # its class is not known, or its policy not understood
                await self._view.refresh()
                continue
            if verdict.again:
                log.debug("a device does not answer; the file is looked at again later", fid=file.fid)
            if await self._metadata.write(
                fsck.settle, held.claim, file, verdict, now=await self._metadata.clock.seconds()
            ):
                if verdict.events:
                    log.debug("checked", fid=file.fid, found=[event.code.value for event in verdict.events])
                if verdict.replicate:
                    self._wakeups.replicate.notify()
                return
            await self._view.refresh()
            now_there = await self._metadata.read(files.find_fid, file.fid)
            if now_there is None:
                await self._metadata.write(queues.finish_tasks, [held.claim])
                return
            file = now_there
        await self._metadata.write(fsck.put_off, held.claim, now=await self._metadata.clock.seconds())

    def _rules_for(self, file: StoredFile) -> tuple[StorageClass, Policy] | None:
        """The file's class and its policy; None if they are not known, or not understood."""
        storage_class = self._view.current.storage_class(file.dmid, file.classid)
        try:
            return (storage_class, parse(storage_class.policy)) if storage_class else None
        except InvalidReplpolicy as error:
            log.warning("policy not understood", fid=file.fid, reason=str(error))
            return None

    def _dead_satisfy(self, file: StoredFile, storage_class: StorageClass, policy: Policy) -> bool:
        """See Case."""
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
        await self._view.look_for(file.devids)
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
            log.warning("no good replica is where one should be", fid=file.fid)
            verdict = judge(case, searched=True, found=await self.survey.search(file, hashtype, self._rng))
        assert isinstance(verdict, FsckVerdict)
        return replace(verdict, events=tuple(event for event in verdict.events if event.code not in self._untold))
