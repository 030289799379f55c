"""Keeps a process's view of the cluster current: reads the rows and probes every device (docs/mogilefs.md 8.5).

Each device is probed by its own task with its own time limit, since a disk that hangs says nothing about the others
of its host. `model.observation` decides what an answer means.
"""

from __future__ import annotations

import asyncio
import logging
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
from tawara.model.observation import UsageResult
from tawara.nodes.client import NodeClient
from tawara.nodes.usage_report import UsageReport
from tawara.wire import identity
from tawara.workers.epoch_watch import EpochWatch

log = structlog.get_logger(__name__)

PERIOD = 4.0
"""Seconds between two rounds while every device is in order."""
FREQUENT_PERIOD = 2.5
"""Seconds between two rounds while a device is not in order."""
TIMEOUT = 2.0
"""Seconds that reading a usage file may take, and that a round waits for its slowest device."""
WRITE_TIMEOUT = 10.0
"""Seconds that a test write may take: a busy disk is slow but not broken."""
WATCH_AGAIN = 60.0
"""Seconds after which a broken side channel is tried again."""


class Monitor:
    """Observes the cluster for one process and publishes the observations in its `ClusterView`.

    `start` returns at once; `view.wait_observed()` returns after the first round. `stop` takes a second at most.
    """

    def __init__(
        self,
        view: ClusterView,
        metadata: Metadata,
        nodes: NodeClient,
        *,
        side_channel_port: int | None = 7501,
        period: float = PERIOD,
        frequent_period: float = FREQUENT_PERIOD,
    ) -> None:
        """`side_channel_port`: that of every storage node; None to read no utilization. Periods are in seconds."""
        self._view = view
        self._metadata = metadata
        self._nodes = nodes
        self._side_channel_port = side_channel_port
        self._period = period
        self._frequent_period = frequent_period
        self._rng = random.Random()  # noqa: S311 - only names of test files
        self._round_lock = asyncio.Lock()
        self._main: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        self._probes: dict[int, asyncio.Task[None]] = {}
        """Devid -> the probe in progress."""
        self._rounds = 0
        self._changed_at = time.monotonic()
        """When the state of a device last changed, by the monotonic clock."""
        self._whole = True
        """Whether the next round probes every device."""
        self._in_round = False
        """Whether a round waits for the probes and will publish their results."""
        self._watches: dict[int, tuple[Host, asyncio.Task[None]]] = {}
        """Hostid -> the host and the task that listens to its side channel."""
        self._seen: dict[int, Observation] = {}
        self._usage: dict[int, tuple[int, int]] = {}
        self._health: dict[int, DiskHealth | None] = {}
        self._places: dict[int, tuple[str | None, str | None]] = {}
        """Devid -> the last known ids of its file system and its disk."""
        self._tested: dict[int, float] = {}
        """Devid -> when a test write was last made, by the monotonic clock."""
        self._utilization: dict[int, float | None] = {}
        self._epochs = EpochWatch(metadata, view, nodes)

    async def start(self) -> None:
        """Start observing, and offer rounds on demand through `view.refresh_devices`."""
        self._view.refresh_devices = self.refresh_devices
        self._main = asyncio.create_task(self._run_rounds(), name="monitor")

    async def stop(self) -> None:
        """Stop observing. The view keeps the last observations."""
        self._view.refresh_devices = None
        tasks = [self._main, self._next, *self._probes.values(), *(task for _, task in self._watches.values())]
        await background.end(task for task in tasks if task is not None)
        self._main = self._next = None
        self._probes.clear()
        self._watches.clear()

    async def refresh_devices(self) -> None:
        """Probe every device, in a round that starts after this call and that concurrent calls share. Raises Db."""
        self._whole = True
        await self._run_round()

    async def _run_round(self) -> None:
        """Run a round over the devices that are due, shared with concurrent calls."""
        if self._next is None:
            self._next = asyncio.create_task(self._one_round(), name="monitor: round")
        await asyncio.shield(self._next)

    async def _one_round(self) -> None:
        async with self._round_lock:
            self._next = None
            await self._round()

    async def _run_rounds(self) -> None:
        while True:
            period = self._frequent_period
            try:
                await self._run_round()
                if not self._checks_frequently:
                    period = self._period
            except TawaraError as error:
                log.warning("monitor_round_failed", reason=str(error))
            except Exception:
                log.exception("monitor_round_failed")
            await asyncio.sleep(period)

    @property
    def _checks_frequently(self) -> bool:
        return observation.needs_frequent_checks(self._view.current, time.monotonic() - self._changed_at)

    async def _round(self) -> None:
        whole = self._whole or self._checks_frequently
        self._whole = False
        self._rounds += 1
        cluster = await self._view.refresh()
        self._forget_all_but(cluster)
        watched = [device for device in cluster.devices.values() if observation.is_watched(cluster, device)]
        self._update_watchers(cluster, {device.hostid for device in watched})
        places: Counter[int] = Counter()
        for device in watched:
            places[device.hostid] += 1
            due = whole or observation.is_due(self._seen.get(device.devid), places[device.hostid], self._rounds)
            if due and device.devid not in self._probes:
                probe = asyncio.create_task(self._probe(cluster, cluster.hosts[device.hostid], device))
                self._probes[device.devid] = probe
                probe.add_done_callback(partial(self._probe_ended, device.devid))
        if self._probes:
            self._in_round = True
            try:
                await asyncio.wait(list(self._probes.values()), timeout=TIMEOUT + 0.5)
            finally:
                self._in_round = False
        await self._record_usage()
        await self._epochs.end_round()
        self._publish()
        await self._report_absences()

    def _probe_ended(self, devid: int, probe: asyncio.Task[None]) -> None:
        if self._probes.get(devid) is probe:
            del self._probes[devid]
        if probe.cancelled():
            return
        if (error := probe.exception()) is not None:
            log.error("device_probe_failed", devid=devid, exc_info=error)
        elif not self._in_round and self._view.current.observed:
            self._publish()  # the change of a slow device does not wait for the next round

    def _publish(self) -> None:
        self._view.observe(
            {
                devid: replace(seen, utilization=self._utilization.get(devid), health=self._health.get(devid))
                for devid, seen in self._seen.items()
            }
        )

    def _forget_all_but(self, cluster: Cluster) -> None:
        """Discard the observations of devices that do not exist or are not watched any more."""
        for devid in list(self._seen):
            device = cluster.devices.get(devid)
            if device is None or not observation.is_watched(cluster, device):
                del self._seen[devid]
                self._usage.pop(devid, None)
                self._health.pop(devid, None)
                self._places.pop(devid, None)
                self._tested.pop(devid, None)

    # --- probing ------------------------------------------------------------------------------------------------------

    async def _look(self, host: Host, device: Device) -> UsageResult:
        try:
            async with asyncio.timeout(TIMEOUT):
                usage = await self._nodes.usage(_url(host, device, "usage", get=True))
        except (NodeUnreachable, NoSource, TimeoutError) as error:
            trouble = str(error) or "no answer in time"
            log.debug("device_usage_failed", devid=device.devid, host=host.name, reason=trouble)
            return UsageResult(None, trouble=trouble)
        if (wrong_identity := await self._check_identity(host, device, usage)) is not None:
            return UsageResult(None, trouble=wrong_identity)
        try:
            other_store = await self._epochs.find_trouble(self._view.current, device.devid)
        except NodeUnreachable as error:
            return UsageResult(None, trouble=str(error))
        if other_store is not None:
            return UsageResult(None, trouble=other_store)
        return UsageResult(
            (usage.total_kib // 1024, -(-usage.used_kib // 1024)), usage.health, usage.file_system, usage.disk
        )

    async def _check_identity(self, host: Host, device: Device, usage: UsageReport) -> str | None:
        """Compare the device's identity with the recorded one. Returns what is wrong, None if nothing is.

        A device that had an identity and now has none, or another one, is never written to. A node of MogileFS, which
        has no identities, is accepted.
        """
        known, shown = self._view.current.identities.get(device.devid), usage.identity
        if shown is None and known is not None:  # another program may serve the same disk now
            try:
                shown = await self._nodes.identity(_url(host, device, identity.FILE, get=True))
            except NodeUnreachable as error:
                return str(error)
            if shown is None:
                return "the device had an identity and has none now: is its disk mounted?"
        if shown == known or shown is None:
            return None
        return await self._metadata.write(identities.check_identity, device.devid, shown, empty=not usage.holds_files)

    async def _probe(self, cluster: Cluster, host: Host, device: Device) -> None:
        await self._examine(cluster, host, device, await self._look(host, device))

    async def _examine(self, cluster: Cluster, host: Host, device: Device, look: UsageResult) -> None:
        """Derive the device's state from its answer, and from a test write if one is due."""
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
            self._changed_at = time.monotonic()
            level = logging.WARNING if state is Observed.UNREACHABLE else logging.INFO
            host = self._view.current.hosts.get(device.hostid)
            log.log(
                level,
                "device_state_changed",
                devid=device.devid,
                host=host and host.name,
                state=str(state),
                reason=trouble,
            )
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
            reason = str(error) or "no answer in time"
            log.debug("device_test_write_failed", devid=device.devid, host=host.name, reason=reason)
        return False

    async def _put_test(self, host: Host, device: Device, name: str, body: bytes) -> None:
        """PUT the test file; if that fails, create its directory first, as most nodes do themselves
        (docs/mogilefs.md 18.1)."""
        url = _url(host, device, name)
        try:
            await self._nodes.put(url, body, length=len(body))
        except NodeUnreachable:
            await self._nodes.make_directory(_url(host, device, "test-write/"))
            await self._nodes.put(url, body, length=len(body))

    async def _rejects_bad_md5(self, host: Host, device: Device) -> bool:
        """Whether the node refuses a body that does not match its Content-MD5."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._nodes.put(_url(host, device, "test-write/test-md5"), b".", length=1, md5=bytes(16))
        except ChecksumMismatch:
            return True
        except (NodeUnreachable, TimeoutError):
            return False  # not known: copies are then verified by reading, which is always correct
        return False

    # --- recording -----------------------------------------------------------------------------------------

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
        """Report to the other monitors which suspect devices this process can and cannot reach."""
        seen = self._view.current
        if not liveness.worth_reporting(seen, self._view.rules):
            return
        changed = await self._metadata.write(device_liveness.report, seen, self._view.rules)
        if not changed:
            return
        known = (await self._view.refresh()).absences
        for devid in changed:
            was, now = seen.absences.get(devid), known.get(devid)
            if (was and was.liveness) is not (now and now.liveness):
                liveness_ = str(now.liveness) if now else "usual"
                log.warning("device_liveness_changed", devid=devid, liveness=liveness_)

    # --- the side channel ---------------------------------------------------------------------------------------------

    def _update_watchers(self, cluster: Cluster, hostids: set[int]) -> None:
        """Listen to the side channels of exactly these hosts."""
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
