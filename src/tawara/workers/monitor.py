"""The monitor: keeps a process's view of the cluster true, by reading the rows and looking at every device.

Each device is looked at by a task of its own, with a time limit of its own: a disk that hangs says nothing about the
other disks of its host. What an answer means is decided in `model.observation`. docs/mogilefs.md 8.5.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from tawara import background
from tawara.metadata import cluster as rows
from tawara.metadata import device_liveness, identities
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model import liveness, observation
from tawara.model.cluster import Cluster, Device, Host, Observation, Observed
from tawara.model.errors import ChecksumMismatch, NodeUnreachable, NoSource, TawaraError
from tawara.model.health import DiskHealth
from tawara.model.observation import Look
from tawara.nodes.client import NodeClient
from tawara.nodes.usage_report import UsageReport
from tawara.wire import identity
from tawara.workers.epoch_watch import EpochWatch

log = structlog.get_logger(__name__)

PERIOD = 4.0
"""Seconds between two rounds while all is well."""
ANXIOUS_PERIOD = 2.5
"""Seconds between two rounds while some device is not as it should be."""
TIMEOUT = 2.0
"""Seconds that a usage file may take, and that a round waits for its slowest device."""
WRITE_TIMEOUT = 10.0
"""Seconds that a test write may take: a busy disk is slow, but not broken."""
WATCH_AGAIN = 60.0
"""Seconds after which a side channel that broke is tried again."""


class Monitor:
    """Looks at the cluster for one process, and tells its `ClusterView`.

    `start` returns at once; `view.wait_observed()` returns after the first round. `stop` ends within a second.
    """

    def __init__(
        self,
        view: ClusterView,
        metadata: Metadata,
        nodes: NodeClient,
        *,
        side_channel_port: int | None = 7501,
        period: float = PERIOD,
        anxious_period: float = ANXIOUS_PERIOD,
    ) -> None:
        """`side_channel_port` is that of every storage node, None to know no utilisation. Periods are seconds."""
        self._view = view
        self._metadata = metadata
        self._nodes = nodes
        self._side_channel_port = side_channel_port
        self._period = period
        self._anxious_period = anxious_period
        self._rng = random.Random()  # noqa: S311 - only names of test files
        self._turn = asyncio.Lock()
        self._main: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._looks: dict[int, asyncio.Task[None]] = {}
        """By devid: the look that is under way."""
        self._rounds = 0
        self._news_at = time.monotonic()
        """When a device was last seen in another state than before, by the monotonic clock."""
        self._whole = True
        """Whether the next round is to look at every device."""
        self._in_round = False
        """Whether a round waits for the looks, and publishes what they find."""
        self._watches: dict[int, tuple[Host, asyncio.Task[None]]] = {}
        """By hostid: who listens to the host's side channel."""
        self._seen: dict[int, Observation] = {}
        self._usage: dict[int, tuple[int, int]] = {}
        self._health: dict[int, DiskHealth | None] = {}
        self._places: dict[int, tuple[str | None, str | None]] = {}
        """By devid: the ids of the file system and of the disk that it was last seen to be on."""
        self._tested: dict[int, float] = {}
        """By devid: when a test write was last made, by the monotonic clock."""
        self._utilization: dict[int, float | None] = {}
        self._epochs = EpochWatch(metadata, view, nodes)

    async def start(self) -> None:
        """Begin to look, and offer rounds on demand through `view.look_again`."""
        self._view.look_again = self.look_again
        self._main = asyncio.create_task(self._keep_looking(), name="monitor")

    async def stop(self) -> None:
        """Stop looking. The view keeps what was seen last."""
        self._view.look_again = None
        tasks = [self._main, self._next, *self._looks.values(), *(task for _, task in self._watches.values())]
        await background.end(task for task in tasks if task is not None)
        self._main = self._next = None
        self._looks.clear()
        self._watches.clear()

    async def look_again(self) -> None:
        """Look at every device, in a round that begins after this call and that later calls share. Raises Db."""
        self._whole = True
        await self._look_in_turn()

    async def _look_in_turn(self) -> None:
        """Make a round, of the devices that are due."""
        if self._next is None:
            self._next = asyncio.create_task(self._one_round(), name="monitor's next round")
        await asyncio.shield(self._next)

    async def _one_round(self) -> None:
        async with self._turn:
            self._next = None
            await self._round()

    async def _keep_looking(self) -> None:
        while True:
            period = self._anxious_period
            try:
                await self._look_in_turn()
                if not self._anxious:
                    period = self._period
            except TawaraError as error:
                log.warning("monitor: round failed", reason=str(error))
            except Exception:
                log.exception("monitor: round failed")
            await asyncio.sleep(period)

    @property
    def _anxious(self) -> bool:
        return observation.is_anxious(self._view.current, time.monotonic() - self._news_at)

    async def _round(self) -> None:
        whole = self._whole or self._anxious
        self._whole = False
        self._rounds += 1
        cluster = await self._view.refresh()
        self._forget_all_but(cluster)
        watched = [device for device in cluster.devices.values() if observation.is_watched(cluster, device)]
        self._keep_watching(cluster, {device.hostid for device in watched})
        places: Counter[int] = Counter()
        for device in watched:
            places[device.hostid] += 1
            due = whole or observation.is_due(self._seen.get(device.devid), places[device.hostid], self._rounds)
            if due and device.devid not in self._looks:
                look = asyncio.create_task(self._look_and_examine(cluster, cluster.hosts[device.hostid], device))
                self._looks[device.devid] = look
                look.add_done_callback(partial(self._look_ended, device.devid))
        if self._looks:
            self._in_round = True
            try:
                await asyncio.wait(list(self._looks.values()), timeout=TIMEOUT + 0.5)
            finally:
                self._in_round = False
        await self._record_usage()
        await self._epochs.end_round()
        self._publish()
        await self._report_absences()

    def _look_ended(self, devid: int, look: asyncio.Task[None]) -> None:
        if self._looks.get(devid) is look:
            del self._looks[devid]
        if look.cancelled():
            return
        if (error := look.exception()) is not None:
            log.error("monitor: look failed", devid=devid, exc_info=error)
        elif not self._in_round and self._view.current.observed:
            self._publish()  # a slow device's news does not wait for the next round

    def _publish(self) -> None:
        self._view.observe(
            {
                devid: replace(seen, utilization=self._utilization.get(devid), health=self._health.get(devid))
                for devid, seen in self._seen.items()
            }
        )

    def _forget_all_but(self, cluster: Cluster) -> None:
        """Devices that are gone or not looked at any more are not observed, whatever was seen of them."""
        for devid in list(self._seen):
            device = cluster.devices.get(devid)
            if device is None or not observation.is_watched(cluster, device):
                del self._seen[devid]
                self._usage.pop(devid, None)
                self._health.pop(devid, None)
                self._places.pop(devid, None)
                self._tested.pop(devid, None)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _look(self, host: Host, device: Device) -> Look:
        try:
            async with asyncio.timeout(TIMEOUT):
                usage = await self._nodes.usage(_url(host, device, "usage", get=True))
        except (NodeUnreachable, NoSource, TimeoutError) as error:
            trouble = str(error) or "no answer in time"
            log.debug("monitor: no usage", device=device.devid, reason=trouble)
            return Look(None, trouble=trouble)
        if (stranger := await self._recognise(host, device, usage)) is not None:
            return Look(None, trouble=stranger)
        try:
            other_store = await self._epochs.trouble_with(self._view.current, device.devid)
        except NodeUnreachable as error:
            return Look(None, trouble=str(error))
        if other_store is not None:
            return Look(None, trouble=other_store)
        return Look((usage.total_kib // 1024, -(-usage.used_kib // 1024)), usage.health, usage.file_system, usage.disk)

    async def _recognise(self, host: Host, device: Device, usage: UsageReport) -> str | None:
        """What is wrong with the identity of a device, None if nothing; a node that has no identities has none wrong.

        Never written to is a device that had an identity and shows none, or another.
        """
        known, shown = self._view.current.identities.get(device.devid), usage.identity
        if shown is None and known is not None:  # served by another program than before, which may be right
            try:
                shown = await self._nodes.identity(_url(host, device, identity.FILE, get=True))
            except NodeUnreachable as error:
                return str(error)
            if shown is None:
                return "it shows no identity, and had one: is its disk mounted?"
        if shown == known or shown is None:
            return None
        return await self._metadata.write(identities.recognise, device.devid, shown, empty=not usage.holds_files)

    async def _look_and_examine(self, cluster: Cluster, host: Host, device: Device) -> None:
        await self._examine(cluster, host, device, await self._look(host, device))

    async def _examine(self, cluster: Cluster, host: Host, device: Device, look: Look) -> None:
        """Conclude from the look, and from a test write where one is due."""
        devid = device.devid
        seen = self._seen.get(devid)
        before = seen.state if seen else None
        testable = observation.may_be_tested(cluster, device)
        wrote: bool | None = None
        rejects = seen.rejects_bad_md5 if seen else False
        if look.usage is not None:
            self._usage[devid] = look.usage
            self._health[devid] = look.health
            self._places[devid] = look.file_system, look.disk
        if not testable:
            self._tested.pop(devid, None)
        elif look.usage is not None:
            tested = self._tested.get(devid)
            since = None if tested is None else time.monotonic() - tested
            if observation.wants_write_test(before, since):
                wrote = await self._write_test(host, device)
                self._tested[devid] = time.monotonic()
                if wrote and before is not Observed.WRITEABLE:
                    rejects = await self._rejects_bad_md5(host, device)
        state = observation.judge(answered=look.usage is not None, testable=testable, wrote=wrote, before=before)
        self._conclude(device, state, rejects_bad_md5=rejects, trouble=look.trouble)

    def _conclude(
        self, device: Device, state: Observed, *, rejects_bad_md5: bool = False, trouble: str | None = None
    ) -> None:
        before = self._seen.get(device.devid)
        if state is Observed.UNREACHABLE:
            self._epochs.forget(device.devid)
        if before is None or before.state is not state:
            self._news_at = time.monotonic()
            say = log.warning if state is Observed.UNREACHABLE else log.info
            say("device observed", device=device.devid, state=str(state), **({"reason": trouble} if trouble else {}))
        file_system, disk = self._places.get(device.devid, (None, None))
        self._seen[device.devid] = Observation(
            state, rejects_bad_md5=rejects_bad_md5, file_system=file_system, disk=disk, trouble=trouble
        )

    async def _write_test(self, host: Host, device: Device) -> bool:
        """Whether a small file can be written to the device and read back."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                for _ in range(3):  # another monitor may write the same file at the same moment
                    number = self._rng.randrange(100)
                    name = f"test-write/test-write-{number:02d}"
                    body = f"rand={self._rng.getrandbits(64)}".encode()
                    await self._put_test(host, device, name, body)
                    if await self._nodes.read_small(_url(host, device, name, get=True)) == body:
                        return True
        except (NodeUnreachable, NoSource, TimeoutError) as error:
            log.debug("monitor: test write failed", device=device.devid, reason=str(error) or "no answer in time")
        return False

    async def _put_test(self, host: Host, device: Device, name: str, body: bytes) -> None:
        """PUT, and only if that fails make the directory first: most nodes make it themselves
        (docs/mogilefs.md 18.1)."""
        url = _url(host, device, name)
        try:
            await self._nodes.put(url, body, length=len(body))
        except NodeUnreachable:
            await self._nodes.make_directory(_url(host, device, "test-write/"))
            await self._nodes.put(url, body, length=len(body))

    async def _rejects_bad_md5(self, host: Host, device: Device) -> bool:
        """Whether the node refuses a body that does not have the Content-MD5 it came with."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._nodes.put(_url(host, device, "test-write/test-md5"), b".", length=1, md5=bytes(16))
        except ChecksumMismatch:
            return True
        except (NodeUnreachable, TimeoutError):
            return False  # not known; a copy is then read back, which is never wrong
        return False

    # --- what is written down -----------------------------------------------------------------------------------------

    async def _record_usage(self) -> None:
        now = await self._metadata.clock.seconds()
        devices = self._view.current.devices
        due = {
            devid: usage
            for devid, usage in self._usage.items()
            if devid in devices and observation.worth_recording(devices[devid], usage, now)
        }
        if due:
            await self._metadata.write(rows.record_usage, due, now=now)
            await self._view.refresh()

    async def _report_absences(self) -> None:
        """Tell the others which devices that they may miss are seen here, and which are not."""
        seen = self._view.current
        if not liveness.worth_reporting(seen, self._view.rules):
            return
        changed = await self._metadata.write(device_liveness.report, seen, self._view.rules)
        if not changed:
            return
        known = (await self._view.refresh()).absences
        for devid in changed:
            was, now = seen.absences.get(devid), known.get(devid)
            if (was and was.standing) is not (now and now.standing):
                log.warning("device", device=devid, standing=str(now.standing) if now else "as usual again")

    # --- the side channel ---------------------------------------------------------------------------------------------

    def _keep_watching(self, cluster: Cluster, hostids: set[int]) -> None:
        """Listen to the side channels of these hosts and of no others."""
        if self._side_channel_port is None:
            return
        for hostid, (host, task) in list(self._watches.items()):
            if hostid not in hostids or host.ip != cluster.hosts[hostid].ip:
                task.cancel()
                del self._watches[hostid]
        for hostid in hostids - self._watches.keys():
            host = cluster.hosts[hostid]
            task = asyncio.create_task(self._watch(host, self._side_channel_port), name=f"watch {host.name}")
            self._watches[hostid] = (host, task)

    async def _watch(self, host: Host, port: int) -> None:
        while True:
            with suppress(NodeUnreachable):  # a node need not have a side channel (docs/mogilefs.md 18.3)
                async for busy in self._nodes.watch(host.ip, port):
                    self._utilization.update(busy)
            for devid, device in self._view.current.devices.items():
                if device.hostid == host.hostid:
                    self._utilization.pop(devid, None)
            await asyncio.sleep(WATCH_AGAIN)


def _url(host: Host, device: Device, name: str, *, get: bool = False) -> str:
    address = f"[{host.ip}]" if ":" in host.ip else host.ip
    return f"http://{address}:{(host.http_get_port if get else None) or host.http_port}/dev{device.devid}/{name}"
