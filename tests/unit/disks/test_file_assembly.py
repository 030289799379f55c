"""Assembling files on a device."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tawara.disks.devices import Devices
from tawara.disks.file_assembly import FileAssembly, run_steps
from tawara.disks.identity import RECORDS
from tawara.disks.incoming import SYNC_EVERY
from tawara.disks.paths import IDENTITY
from tawara.disks.pools import DevicePools
from tawara.model import fid as fids
from tawara.model.assembling import ByteRange
from tawara.model.checksums import checksum_of
from tawara.model.cluster import HashType
from tawara.model.errors import TawaraError
from tawara.model.node_errors import DeviceFull, InvalidPath, OtherContent, SourceMissing, SourceTooShort
from tawara.wire.assemble import AssembleRequest

TARGET = fids.path(1, 100)
PARTS = {1: b"first", 2: b"", 3: os.urandom(10_000)}


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    """A device that holds PARTS."""
    (tmp_path / "dev1").mkdir()
    devices = Devices(tmp_path)
    for fid, body in PARTS.items():
        with devices.receive(fids.path(1, fid)) as incoming:
            incoming.write(body)
            incoming.commit()
    return devices


def assembly(devices: Devices, *ranges: tuple[int, int, int], replace: bool = False) -> FileAssembly:
    wanted = AssembleRequest(tuple(ByteRange(*each) for each in ranges), tuple(HashType))
    return FileAssembly(devices, TARGET, wanted, replace=replace)


def finish(assembly: FileAssembly) -> None:
    while assembly.step():
        pass


def content(devices: Devices) -> bytes:
    return (devices.docroot / TARGET[1:]).read_bytes()


def files(devices: Devices) -> set[str]:
    """Every file on the device except the parts and the node's own files."""
    found = {each for each in devices.docroot.rglob("*") if each.is_file() and RECORDS not in each.parts}
    known = {devices.docroot / fids.path(1, fid)[1:] for fid in PARTS}
    return {str(each.relative_to(devices.docroot)) for each in found - known if each.name != IDENTITY}


RANGES = st.sampled_from(sorted(PARTS)).flatmap(
    lambda fid: st.tuples(st.integers(0, len(PARTS[fid])), st.integers(0, len(PARTS[fid]))).map(
        lambda ends: (fid, min(ends), abs(ends[1] - ends[0]))
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(RANGES, max_size=6), st.booleans())
def test_ranges_are_joined(devices: Devices, ranges: list[tuple[int, int, int]], by_steps: bool) -> None:
    """The new file is its ranges in order, and has the requested checksums, in steps and all at once."""
    wanted = b"".join(PARTS[fid][start : start + length] for fid, start, length in ranges)
    made = assembly(devices, *ranges, replace=True)
    if by_steps:
        finish(made)
        assert content(devices) == wanted
    else:
        assert made.read_whole() == wanted
    assert made.length == len(wanted)
    assert made.checksums == tuple(checksum_of(wanted, each) for each in HashType)


@pytest.mark.parametrize(
    ("ranges", "error"),
    [
        ([(1, 0, 5), (4, 0, 1)], SourceMissing),
        ([(1, 0, 5), (1, 3, 3)], SourceTooShort),
        ([(2, 1, 0)], SourceTooShort),
        ([(3, 0, 2**62), (3, 0, 2**62)], SourceTooShort),
    ],
)
def test_an_invalid_range_is_refused_first(
    devices: Devices, ranges: list[tuple[int, int, int]], error: type[TawaraError]
) -> None:
    """A missing source, or a range beyond its end, is an error before any byte is written."""
    for act in (finish, FileAssembly.read_whole):
        with pytest.raises(error):
            act(assembly(devices, *ranges))
        assert files(devices) == set()


@pytest.mark.parametrize("path", ["/dev1/x", "/dev1/0/000/000/0000000001.fid/", "/dev1/usage", "/dev1"])
def test_only_fids_are_assembled(devices: Devices, path: str) -> None:
    """A path that is not a fid's is refused."""
    with pytest.raises(InvalidPath):
        FileAssembly(devices, path, AssembleRequest(()))


def test_other_content_is_kept(devices: Devices) -> None:
    """A fid with other content is not replaced unless requested; the same content again is no error."""
    finish(assembly(devices, (1, 0, 5)))
    finish(assembly(devices, (1, 0, 5)))
    with pytest.raises(OtherContent):
        finish(assembly(devices, (1, 0, 4)))
    assert content(devices) == b"first"
    finish(assembly(devices, (1, 0, 4), replace=True))
    assert content(devices) == b"firs"
    assert files(devices) == {TARGET[1:]}


def failing(error: int) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP])
def test_file_systems_without_copy_file_range(devices: Devices, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where copy_file_range is not supported the bytes are copied in another way."""
    monkeypatch.setattr(os, "copy_file_range", failing(code))
    finish(assembly(devices, (3, 1, 9000), (1, 0, 5)))
    assert content(devices) == PARTS[3][1:9001] + PARTS[1]


def test_a_full_device(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the device becomes full during the assembly, nothing of the file remains."""
    monkeypatch.setattr(os, "copy_file_range", failing(errno.ENOSPC))
    with pytest.raises(DeviceFull):
        finish(assembly(devices, (3, 0, 10_000)))
    assert files(devices) == set()


@pytest.mark.parametrize("unnamed", [True, False])
def test_an_aborted_assembly_leaves_nothing(devices: Devices, unnamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an abort at any step, nothing remains on the device and no file is open."""
    monkeypatch.setattr("tawara.disks.file_assembly._FILES_AT_ONCE", 1)
    devices.unnamed = unnamed
    before = len(os.listdir("/proc/self/fd"))
    for steps in range(8):
        made = assembly(devices, (1, 0, 5), (3, 0, 100))
        done = not all(made.step() for _ in range(steps))
        made.abort()
        assert files(devices) == ({TARGET[1:]} if done else set())
        assert len(os.listdir("/proc/self/fd")) == before
    assert done


def test_steps_are_short(devices: Devices) -> None:
    """A step copies a bounded number of bytes, however long the ranges are, and opens a bounded number of files."""
    with devices.receive(fids.path(1, 3), replace=True) as incoming:
        os.truncate(incoming._file, 3 * SYNC_EVERY)  # sparse
        incoming.size = 3 * SYNC_EVERY
        incoming.commit()
    made = FileAssembly(
        devices, TARGET, AssembleRequest((ByteRange(3, 1, 2 * SYNC_EVERY), ByteRange(3, 0, SYNC_EVERY)))
    )
    steps = 0
    while made.step():
        steps += 1
    assert steps >= 3
    assert (devices.docroot / TARGET[1:]).stat().st_size == 3 * SYNC_EVERY
    many = FileAssembly(devices, fids.path(1, 101), AssembleRequest((ByteRange(1, 0, 1), ByteRange(3, 0, 1)) * 100))
    steps = 0
    while many.step():
        steps += 1
    assert steps >= 6


async def test_a_cancelled_caller(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the caller is cancelled, or the check between steps fails, the file is discarded."""
    monkeypatch.setattr("tawara.disks.file_assembly._FILES_AT_ONCE", 1)
    pools = DevicePools(devices)

    def refuse() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await run_steps(assembly(devices, (1, 0, 5), (3, 0, 100)), pools, "dev1", check=refuse)
    assert files(devices) == set()
    running = asyncio.ensure_future(run_steps(assembly(devices, (1, 0, 5), (3, 0, 100)), pools, "dev1"))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert files(devices) == set()
    done = await run_steps(assembly(devices, (1, 0, 5)), pools, "dev1")
    assert (done.length, content(devices)) == (5, b"first")
    pools.close()
