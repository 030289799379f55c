"""Faults of a cluster, one function each: the part before `yield` causes the fault, the part after it ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tawara.metadata import scrub
from tawara.metadata.contract import Transaction
from tawara.model.cluster import DeviceState
from tawara.model.fsck import Code
from tests.contract.servers import Server
from tests.probe.cluster import audit
from tests.probe.cluster.load import Load
from tests.probe.cluster.machines import Machines

CLOCK = "/usr/lib/*/faketime/libfaketime.so.1"
SLOW_KILOBITS = 256
SCRUB_PERIOD = 20
"""Seconds in which every byte is read again while bits are flipped, instead of a month."""
JUMPED = 6.0
"""Seconds for which daemons work with a clock that has jumped before one of them is killed."""


@dataclass
class Scene:
    """The environment of a fault."""

    machines: Machines
    load: Load
    exposed: set[str] = field(default_factory=set)
    """Keys whose only copy was on a machine that is gone for ever: MogileFS's protocol acknowledges the first copy."""
    notes: list[str] = field(default_factory=list)
    when_repaired: Callable[[], Awaitable[None]] | None = None
    """What is done once every file has its copies again."""


Hurt = Callable[[Scene], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault, and its duration."""

    name: str
    hurt: Hurt
    seconds: float
    """From the fault until it is healed."""
    isolated: bool
    """Whether it needs namespaces of its own."""
    server: bool
    """Whether it is a fault of a database that is a server."""
    for_good: bool
    """Whether the cluster is not what it was afterwards."""


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, *, seconds: float = 8.0, isolated: bool = False, server: bool = False, for_good: bool = False
) -> Callable[[Callable[[Scene], AsyncIterator[None]]], None]:
    """Register a fault under its name."""

    def register(hurt: Callable[[Scene], AsyncIterator[None]]) -> None:
        FAULTS[name] = Fault(name, asynccontextmanager(hurt), seconds, isolated, server, for_good)

    return register


# --- processes --------------------------------------------------------------------------------------------------------


def _killed(daemon: str) -> Callable[[Scene], AsyncIterator[None]]:
    async def hurt(scene: Scene) -> AsyncIterator[None]:
        scene.machines.kill(daemon)
        try:
            yield
        finally:
            await scene.machines.start_daemons(daemon)

    return hurt


fault("a storage node is killed")(_killed("node1"))
fault("a tracker is killed")(_killed("tracker1"))
fault("workers are killed")(_killed("workers1"))
fault("a gateway is killed")(_killed("gateway1"))


@fault("a tracker's process is killed", seconds=4)
async def tracker_process_killed(scene: Scene) -> AsyncIterator[None]:
    """One of two, which its parent restarts."""
    os.kill(scene.machines.daemons["tracker2"].children()[0], signal.SIGKILL)
    yield


@fault("nginx is killed", seconds=4)
async def nginx_killed(scene: Scene) -> AsyncIterator[None]:
    """nginx is killed; the gateway has to restart it."""
    for pid in scene.machines.family("gateway1")[1:]:
        if b"nginx" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
            break
    else:
        raise LookupError("the gateway has no nginx")
    yield


@fault("everything is killed at once", seconds=2)
async def everything_killed(scene: Scene) -> AsyncIterator[None]:
    """The power fails on all machines."""
    names = list(scene.machines.daemons)
    scene.machines.lose_power(*names)
    if scene.machines.server is not None:
        await asyncio.to_thread(scene.machines.server.kill)
    try:
        yield
    finally:
        if scene.machines.server is not None:
            await asyncio.to_thread(scene.machines.server.start)
        await scene.machines.start_daemons(*names)


@fault("a storage node hangs", seconds=25)
async def node_hangs(scene: Scene) -> AsyncIterator[None]:
    """It accepts connections, and sends nothing."""
    scene.machines.signal("node2", signal.SIGSTOP)
    try:
        yield
    finally:
        scene.machines.signal("node2", signal.SIGCONT)


@fault("a storage node is gone for ever", seconds=5, for_good=True)
async def node_gone(scene: Scene) -> AsyncIterator[None]:
    """A machine is lost with all its disks. Later the operator marks the devices dead."""
    machines = scene.machines
    machines.lose_power("node3")
    gone = machines.devids(3)
    files = (await audit.survey(machines)).files.values()
    scene.exposed |= {file.key for file in files if file.on <= set(gone)}
    scene.notes.append(f"{len(scene.exposed)} files had their only copy there")
    for devid in gone:
        for each in machines.device(devid).iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()

    async def declare_dead() -> None:
        async with machines.client() as client:
            for devid in gone:
                await client.set_device_state("n3", devid, DeviceState.DEAD)

    scene.when_repaired = declare_dead
    yield


# --- the network ------------------------------------------------------------------------------------------------------


@fault("the network is cut in halves", seconds=25, isolated=True)
async def network_cut(scene: Scene) -> AsyncIterator[None]:
    """The database, three storage nodes, a tracker and all clients are on one side; the others are on the other."""
    scene.machines.network.cut()
    try:
        yield
    finally:
        scene.machines.network.join()


@fault("a storage node's cable is pulled", seconds=25, isolated=True)
async def node_unplugged(scene: Scene) -> AsyncIterator[None]:
    """No refusals and no ends of connections, as when a machine is switched off."""
    scene.machines.network.cut("n2")
    try:
        yield
    finally:
        scene.machines.network.join("n2")


@fault("a storage node is slow", seconds=15, isolated=True)
async def node_slow(scene: Scene) -> AsyncIterator[None]:
    """Its link carries 256 kbit/s."""
    scene.machines.network.slow("n2", SLOW_KILOBITS)
    try:
        yield
    finally:
        scene.machines.network.slow("n2", None)


# --- disks ------------------------------------------------------------------------------------------------------------


@fault("a disk is full", seconds=10, isolated=True)
async def disk_full(scene: Scene) -> AsyncIterator[None]:
    """Completely, at once, before any monitor detects it."""
    ballast = scene.machines.device(3) / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**20))
        except OSError:
            pass
    try:
        yield
    finally:
        ballast.unlink()


@fault("a disk is read-only", seconds=10, isolated=True)
async def disk_read_only(scene: Scene) -> AsyncIterator[None]:
    """As a file system does after an error."""
    device = str(scene.machines.device(5))
    await _remount(device, "ro")
    try:
        yield
    finally:
        await _remount(device, "rw")


async def _remount(device: str, how: str) -> None:
    """Repeat while a file is open for writing there."""
    async with asyncio.timeout(30):
        while subprocess.run(["mount", "-o", f"remount,{how}", device], capture_output=True, check=False).returncode:
            await asyncio.sleep(0.01)


@fault("bits are flipped on a disk", seconds=5)
async def bits_flipped(scene: Scene) -> AsyncIterator[None]:
    """One bit in each file with a checksum on one device is flipped. A scrub with a short period finds them."""
    machines = scene.machines
    async with machines.client() as client:
        await client.set_setting(scrub.PERIOD, f"{SCRUB_PERIOD}s")
        now = (await client.scrub_status()).current_time
        async with asyncio.timeout(150):  # workers look at the setting once a minute, and end a round that they are at
            while (await client.scrub_status()).began < now:
                await asyncio.sleep(0.5)
    checked = await machines.rows.read(_with_checksum)  # others may not have been read since they came
    found = await audit.survey(machines)
    scene.load.reads_may_rot = True
    flipped: dict[int, bytes] = {}
    for file in found.files.values():
        path = found.on_disk.get((file.fid, 1))
        if path is not None and file.fid in checked and file.length:
            with path.open("r+b") as replica:
                replica.seek(file.length // 2)
                (byte,) = replica.read(1)
                replica.seek(file.length // 2)
                replica.write(bytes([byte ^ 1]))
            flipped[file.fid] = path.read_bytes()
    began = time.monotonic()
    yield
    async with machines.client() as client:
        async with asyncio.timeout(120):
            while _still_corrupt(await audit.survey(machines), flipped):
                await asyncio.sleep(0.5)
        took = time.monotonic() - began
        counts = (await client.scrub_status()).counts
        await client.set_setting(scrub.PERIOD, "")
    scene.load.reads_may_rot = False
    assert counts.get(Code.BAD_CHECKSUM), f"the scrub found nothing: {counts}"
    scene.notes.append(f"{len(flipped)} files, {counts[Code.BAD_CHECKSUM]} of them still there when they were read")
    scene.notes.append(f"all repaired after {took:.0f} s")


async def _with_checksum(tx: Transaction) -> set[int]:
    return {fid for (fid,) in await tx.rows("SELECT fid FROM checksum")}


def _still_corrupt(found: audit.Survey, flipped: dict[int, bytes]) -> list[int]:
    """The fids of which a row still has the replica with a flipped bit."""
    rotten = []
    for fid, content in flipped.items():
        file, path = found.files.get(fid), found.on_disk.get((fid, 1))
        if file is not None and 1 in file.on and path is not None:
            with suppress(FileNotFoundError):
                rotten += [fid] if path.read_bytes() == content else []
    return rotten


# --- clocks -----------------------------------------------------------------------------------------------------------


@fault("a clock is an hour ahead", seconds=5, isolated=True, server=True)
async def clock_ahead(scene: Scene) -> AsyncIterator[None]:
    """The clock of the machine with the second tracker, its workers and its gateway is wrong at their start: they have
    to refuse. With SQLite this cannot be detected, since there is no other clock."""
    names = ("tracker2", "workers2", "gateway2")
    scene.machines.kill(*names)
    for name in names:
        await _must_refuse(scene.machines, name, _own_clock(FAKETIME="+1h"))
    scene.notes.append("its daemons refuse to start")
    try:
        yield
    finally:
        await scene.machines.start_daemons(*names)


@fault("a clock jumps an hour ahead, and back", seconds=25, isolated=True)
async def clock_jumps(scene: Scene) -> AsyncIterator[None]:
    """The clock of the machine with the second tracker, its workers and its gateway jumps while they run. With SQLite,
    of all that open the file, whose clock is theirs."""
    machines = scene.machines
    numbers = (1, 2) if machines.server is None else (2,)
    names = [f"{room}{number}" for number in numbers for room in ("tracker", "workers", "gateway")]
    hand = machines.directory / "clock"
    _set_clock(hand, "+0")
    own = _own_clock(FAKETIME_TIMESTAMP_FILE=str(hand), FAKETIME_CACHE_DURATION="1")
    for name in names:  # one at a time, so that clients find another
        machines.kill(name)
        await machines.start_daemons(name, environment=own)
    _set_clock(hand, "+1h")
    killed = "workers2"
    try:
        await asyncio.sleep(JUMPED)
        # What these have claimed by now is taken over as soon as ever, for it is dated right.
        machines.kill(killed)
        if machines.server is not None:  # and the clock has jumped indeed
            await _must_refuse(machines, killed, own)
        yield
    finally:
        _set_clock(hand, "+0")
        await machines.start_daemons(killed, environment=own)


@fault("two clocks differ by 15 seconds", seconds=15, isolated=True, server=True)
async def clocks_differ(scene: Scene) -> AsyncIterator[None]:
    """The clocks of the machines with trackers, workers and gateways differ by somewhat less than makes daemons refuse
    to start. The workers of each are killed in turn, so that those of the other take over their claims."""
    machines = scene.machines
    own = _own_clock(FAKETIME="+15s")
    for name in ("tracker2", "workers2", "gateway2"):
        machines.kill(name)
        await machines.start_daemons(name, environment=own)
    machines.kill("workers2")
    await machines.start_daemons("workers2", environment=own)
    machines.kill("workers1")
    await machines.start_daemons("workers1")
    yield


async def _must_refuse(machines: Machines, name: str, environment: dict[str, str]) -> None:
    """Start a daemon that must refuse to start because of its clock."""
    try:
        await machines.start_daemons(name, environment=environment)
    except AssertionError as refused:
        if "ahead of the database" not in str(refused):
            raise
    else:
        raise AssertionError(f"{name} starts with a clock an hour ahead")


def _own_clock(**setting: str) -> dict[str, str]:
    """The environment that gives a daemon its own clock; its monotonic clock is unchanged, as in the kernel."""
    library = next(Path("/").glob(CLOCK[1:]))
    return {"LD_PRELOAD": str(library), "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1", "FAKETIME_DISABLE_SHM": "1", **setting}  # fmt: skip


def _set_clock(hand: Path, to: str) -> None:
    """Write the file atomically, for concurrent readers."""
    fresh = hand.with_suffix(".new")
    fresh.write_text(to)
    fresh.replace(hand)


# --- the database -----------------------------------------------------------------------------------------------------


def _server(scene: Scene) -> Server:
    assert scene.machines.server is not None
    return scene.machines.server


@fault("the database is killed", seconds=3, server=True)
async def database_killed(scene: Scene) -> AsyncIterator[None]:
    """It is restarted afterwards."""
    server = _server(scene)
    await asyncio.to_thread(server.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


@fault("the database is restarted", seconds=0, server=True)
async def database_restarted(scene: Scene) -> AsyncIterator[None]:
    """Regularly, as for an upgrade."""
    server = _server(scene)
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


@fault("the database is gone for a minute", seconds=60, server=True)
async def database_gone(scene: Scene) -> AsyncIterator[None]:
    """No server responds at its address."""
    server = _server(scene)
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


@fault("the database hangs", seconds=10, server=True)
async def database_hangs(scene: Scene) -> AsyncIterator[None]:
    """It keeps its connections, and sends nothing."""
    server = _server(scene)
    await asyncio.to_thread(server.pause)
    try:
        yield
    finally:
        server.resume()
