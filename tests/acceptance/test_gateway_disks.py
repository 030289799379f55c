"""The gateway and the disks of its own machine: foreign disks, symbolic links, ranges, and the spool of bodies."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tawara.gateway import nginx as nginx_module
from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_processes import end_all, running_in
from tawara.gateway.put_handlers import UnreceivedHandler
from tawara.gateway.requests import HttpRequest
from tawara.http1.reply import Reply
from tawara.model.node_errors import DeviceFull
from tawara.store.local_devices import LocalDevices
from tawara.wire import identity
from tawara.wire.identity import Identity
from tests.acceptance.gateway_fixture import SECRET, StoreFixture, store_fixture
from tests.acceptance.test_gateway_failover import QUICK, children

DATA = os.urandom(100_000)
OTHER = bytes(each ^ 255 for each in DATA)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A gateway behind nginx that reads the disk of its own machine, dev1, directly."""
    async with store_fixture(tmp_path, nginx=True, limits=QUICK) as one:
        yield one


async def eventually(true: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.05)


async def only_read_from(gateway: StoreFixture, devid: int, key: bytes) -> None:
    """Remove all replicas of a key except one."""
    fid = (await gateway.stored(key)).fid
    for other in {1, 2, 3} - {devid}:
        gateway.replica(other, fid).unlink()


# --- what nginx may read ----------------------------------------------------------------------------------------------


async def test_a_foreign_disk_in_place_of_a_device(gateway: StoreFixture) -> None:
    """A file on another store's disk, with the same fid and length, is not sent."""
    await gateway.put("/d/k?class=three", DATA)
    fid = (await gateway.stored(b"k")).fid
    replica = gateway.replica(1, fid)
    gateway.disk(1).rename(gateway.disk(1).with_name("away"))
    replica.parent.mkdir(parents=True)
    replica.write_bytes(OTHER)
    for shown in (None, Identity("dev1", "another store's"), Identity("dev7", "another device's")):
        if shown is not None:
            (gateway.disk(1) / identity.FILE).write_bytes(identity.render(shown))
        for _ in range(6):
            assert (await gateway.ask("GET", "/d/k")).body == DATA
    await only_read_from(gateway, 1, b"k")
    assert (await gateway.ask("GET", "/d/k")).status == 503


async def test_a_device_with_another_identity_than_recorded(gateway: StoreFixture) -> None:
    """A disk with its usual local identity, but not the database's, is skipped."""
    await gateway.put("/d/k?class=three", DATA)
    fid = (await gateway.stored(b"k")).fid
    gateway.replica(1, fid).write_bytes(OTHER)
    await gateway.metadata.write(_remember, 1, "the real one")
    await gateway.view.refresh()
    for _ in range(6):
        assert (await gateway.ask("GET", "/d/k")).body == DATA


async def _remember(tx: object, devid: int, shown: str) -> None:
    await tx.run("INSERT INTO tawara_device (devid, identity) VALUES (?, ?)", devid, shown)  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", ["file", "directory"])
@pytest.mark.parametrize("checked", [True, False], ids=["gateway", "nginx alone"])
async def test_symbolic_links_on_a_device(
    gateway: StoreFixture, monkeypatch: pytest.MonkeyPatch, place: str, checked: bool
) -> None:
    """No link below a device's directory is followed, neither by the gateway nor by nginx."""
    await gateway.put("/d/k?class=three", DATA)
    fid = (await gateway.stored(b"k")).fid
    replica = gateway.replica(1, fid)
    secret = gateway.directory / "secret" / replica.name
    secret.parent.mkdir()
    secret.write_bytes(OTHER)
    if place == "file":
        replica.unlink()
        replica.symlink_to(secret)
    else:
        shutil.rmtree(replica.parent)
        replica.parent.symlink_to(secret.parent)
    if not checked:

        async def size(*_: object) -> int:
            return len(DATA)

        monkeypatch.setattr(LocalDevices, "size", size)
    for _ in range(6):
        assert (await gateway.ask("GET", "/d/k")).body == DATA


async def test_a_device_may_be_a_symbolic_link(gateway: StoreFixture) -> None:
    """A device's own directory may be a link to the mount point of its disk."""
    gateway.disk(1).rename(gateway.directory / "mounted")
    gateway.disk(1).symlink_to(gateway.directory / "mounted")
    await gateway.put("/d/k?class=three", DATA)
    await only_read_from(gateway, 1, b"k")
    await gateway.stop_node(1)  # nginx reads the disk
    assert (await gateway.ask("GET", "/d/k")).body == DATA
    etag = (await gateway.ask("HEAD", "/d/k"))["ETag"] or ""
    for fields in ({"Range": "bytes=5-9"}, {"Range": "bytes=5-9", "If-Range": etag}):
        assert (await gateway.ask("GET", "/d/k", headers=fields)).body == DATA[5:10]


RANGES = [
    ("bytes=0-18446744073709551615", 0, 100_000),
    ("bytes=5-9223372036854775808", 5, 100_000),
    ("bytes=5-9223372036854775807", 5, 100_000),
    ("bytes=-99999999999999999999", 0, 100_000),
    ("bytes=00000000000000000000007-8", 7, 9),
    ("bytes=1-3\t", 1, 4),
    ("\tbytes=1-3", 1, 4),
    ("bytes=1-3\r\nIf-Range: {etag}\t", 1, 4),
    ("BYTES= 1-3", 1, 4),
    ("bytes=99999-", 99_999, 100_000),
]


@pytest.mark.parametrize(("asked", "start", "end"), RANGES)
@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
async def test_unusual_ranges(tmp_path: Path, nginx: bool, asked: str, start: int, end: int) -> None:
    """Ranges with numbers beyond 63 bits, or unusual blanks, get the same response with nginx and without."""
    async with store_fixture(tmp_path, nginx=nginx, limits=QUICK) as one:
        await one.put("/d/k?class=three", DATA)
        await only_read_from(one, 1, b"k")
        asked = asked.format(etag=(await one.ask("HEAD", "/d/k"))["ETag"])
        request = f"GET /d/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: {asked}\r\n\r\n"
        head, _, body = (await one.raw(request.encode())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 206 "), head
        assert f"Content-Range: bytes {start}-{end - 1}/100000".encode() in head
        assert head.count(b"\r\nContent-Type:") == 1
        assert body == DATA[start:end]


# --- the spool --------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(place: Path, kib: int) -> Iterator[None]:
    """A file system of a few KiB, mounted at `place`; needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", 0, f"size={kib}k".encode()) != 0:
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        libc.umount2(os.fsencode(place), 2)


async def test_a_full_spool(tmp_path: Path) -> None:
    """An upload that does not fit into the spool is 507, with a length or in chunks; smaller ones are stored."""
    spool = tmp_path / "spool"
    spool.mkdir()
    with small_disk(spool, 256):
        async with store_fixture(tmp_path, nginx=True, spool=spool) as one:
            assert (await one.put("/d/k", b"x" * 400_000)).status == 507
            head = (
                f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            answer = await one.raw(head.encode() + b"c350\r\n%s\r\n" % (b"x" * 50_000) * 8 + b"0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 507 ")
            assert answer.endswith(b"\r\n\r\nThere is no space on the gateway's disk to receive the file\n")
            assert await one.find(b"k") is None
            assert (await one.put("/d/k", b"x" * 100_000)).status == 201
            await eventually(lambda: not any((spool / "bodies").iterdir()))


async def test_the_rest_of_a_failed_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response stays 507 when more of the body arrives, and fails as well, while the gateway is asked for the
    response."""
    asked = asyncio.Event()
    handle = UnreceivedHandler.handle

    async def slowly(self: UnreceivedHandler, request: HttpRequest) -> Reply:
        asked.set()
        await asyncio.sleep(0.5)
        return await handle(self, request)

    monkeypatch.setattr(UnreceivedHandler, "handle", slowly)
    spool = tmp_path / "spool"
    spool.mkdir()
    with small_disk(spool, 256):
        async with store_fixture(tmp_path, nginx=True, spool=spool) as one:
            reader, writer = await asyncio.open_connection(*one.gateway.address)
            writer.write(f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n".encode())
            writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
            while not asked.is_set():
                writer.write(b"c350\r\n%s\r\n" % (b"x" * 50_000))
                await asyncio.sleep(0.01)
            for _ in range(8):
                writer.write(b"c350\r\n%s\r\n" % (b"x" * 50_000))
                await asyncio.sleep(0.01)
            assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 507 ")
            writer.close()


def fill(place: Path) -> None:
    """Fill a file system completely."""
    with (place / "filling").open("wb", buffering=0) as file:
        for piece in (65_536, 512):
            with suppress(OSError):
                while True:
                    file.write(bytes(piece))


@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
async def test_a_full_disk(tmp_path: Path, nginx: bool) -> None:
    """As soon as the disk of database, spool and devices is full the response is 507."""
    small = tmp_path / "small"
    small.mkdir()
    with small_disk(small, 16_384):
        async with store_fixture(small, nginx=nginx) as one:
            assert (await one.put("/d/k", DATA)).status == 201
            await asyncio.to_thread(fill, small)
            for number in range(6):
                answer = await one.put(f"/d/new{number}?class=three", DATA[: number * 20_000])
                assert (answer.status, answer["Content-Type"]) == (507, "text/plain")
            (small / "filling").unlink()
            assert (await one.put("/d/new", DATA)).status == 201


async def test_full_devices(tmp_path: Path) -> None:
    """The same if only devices, here and on other machines, are full."""
    async with store_fixture(tmp_path, nginx=True) as one:
        for node in one.nodes:
            node.devices.receive = _full  # type: ignore[method-assign,assignment]
        assert (await one.put("/d/k?class=three", DATA)).status == 507
        assert await one.find(b"k") is None


def _full(*_: object, **__: object) -> None:
    raise DeviceFull


async def test_a_removed_spool(tmp_path: Path) -> None:
    """The spool's directory is created again when it is missing, with its parents."""
    async with store_fixture(tmp_path, nginx=True, spool=tmp_path / "var" / "spool") as one:
        assert (await one.put("/d/k", DATA)).status == 201
        shutil.rmtree(tmp_path / "var")
        assert (await one.put("/d/k", OTHER)).status == 204
        assert (await one.ask("GET", "/d/k")).body == OTHER


async def test_bodies_of_a_killed_worker(gateway: StoreFixture) -> None:
    """Bodies received by a killed nginx worker are removed while nginx runs; a body being received stays."""
    assert gateway.front is not None and gateway.front.pid is not None
    front, master = gateway.front, gateway.front.pid
    head = f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 300000\r\n\r\n"

    async def half_a_body() -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection(*gateway.gateway.address)
        writer.write(head.encode() + b"x" * 150_000)
        await writer.drain()
        return writer

    first = await half_a_body()
    await eventually(front.spool.names)
    abandoned = front.spool.names()
    old = children(master)
    os.kill(old[0], signal.SIGKILL)
    await eventually(lambda: children(master) and not set(old) & set(children(master)))
    second = await half_a_body()
    await eventually(lambda: front.spool.names() - abandoned)
    await asyncio.to_thread(front.remove_abandoned)
    assert len(front.spool.names()) == 1
    assert not front.spool.names() & abandoned
    second.write(b"x" * 150_000)
    await eventually(lambda: not front.spool.names())
    assert (await gateway.stored(b"k")).length == 300_000
    first.close()
    second.close()


async def test_the_error_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nginx runs, a long error log is rotated, one old one is kept, and nginx writes a new one."""
    monkeypatch.setattr(nginx_module, "_TIDY_EVERY", 0.05)
    monkeypatch.setattr(nginx_module, "_ERROR_LOG", 10_000)
    async with store_fixture(tmp_path, nginx=True, limits=QUICK) as one:
        assert one.front is not None
        log = one.front.directory / "error.log"
        for filling in (b"first\n", b"second\n"):
            with log.open("ab") as file:
                file.write(filling * 5000)
            await eventually(lambda filling=filling: log.with_name("error.log.1").exists()  # type: ignore[misc]
                             and log.with_name("error.log.1").read_bytes().count(filling) == 5000)  # fmt: skip
            await eventually(lambda: log.exists() and log.stat().st_size < 10_000)
        await one.put("/d/k?class=one", DATA)
        devid = (await one.stored(b"k")).devids[0]
        one.replica(devid, (await one.stored(b"k")).fid).unlink()
        assert (await one.ask("GET", "/d/k")).status == 503


# --- other gateways ---------------------------------------------------------------------------------------------------

SLEEPER = """
import os, subprocess, sys
directory, program = sys.argv[1:]
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", os.path.dirname(directory)], check=True)
os.mkdir(directory)
os.chdir(directory)
print("ready", flush=True)
os.execv(program, [program, "60"])
"""


async def test_a_process_in_another_mount_namespace(tmp_path: Path) -> None:
    """Only processes running in our directory are ended, not those in another one of the same name."""
    directory, program = tmp_path / "state" / "nginx", tmp_path / "nginx"
    directory.mkdir(parents=True)
    shutil.copy("/bin/sleep", program)
    other = subprocess.Popen(
        ["unshare", "--mount", sys.executable, "-c", SLEEPER, str(directory), str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ours = subprocess.Popen([str(program), "60"], cwd=directory)
    try:
        assert other.stdout is not None and other.stderr is not None
        if not await asyncio.to_thread(other.stdout.readline):
            pytest.skip(f"no mount namespaces here: {other.stderr.read().decode()}")
        await eventually(lambda: Path(f"/proc/{other.pid}/exe").readlink() == program)
        assert list(running_in(directory, "nginx")) == [ours.pid]
        end_all(directory, "nginx", 10)
        assert (ours.wait(10), other.poll()) == (-signal.SIGKILL, None)
    finally:
        for each in (ours, other):
            each.kill()
            each.communicate()


async def test_two_gateways_with_one_spool(tmp_path: Path) -> None:
    """A gateway does not start with the spool of another one, because that would lose bodies."""
    spool = tmp_path / "spool"
    async with store_fixture(tmp_path, nginx=True, spool=spool):
        other = NginxFront(tmp_path / "other", spool=spool)
        with pytest.raises(Exception, match="Another gateway runs with the spool"):
            other.take_directory()
        await other.stop()
