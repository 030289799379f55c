"""Small files that are stored, and deleted, in batches."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tawara.disks import deletions
from tawara.disks.devices import Devices
from tawara.disks.identity import RECORDS
from tawara.disks.paths import IDENTITY, INCOMING
from tawara.disks.small_files import SmallFile, store
from tawara.model.node_errors import (
    DeviceFailed,
    DeviceFull,
    InvalidPath,
    NoSuchFile,
    OtherContent,
    PathConflict,
    Reserved,
    WrongDigest,
)


def path(number: int, directory: int = 0) -> str:
    return f"/dev1/0/000/{directory:03}/{number:010}.fid"


def files(root: Path) -> dict[str, bytes]:
    """All files except those that identify the device."""
    found = (each for each in root.rglob("*") if not each.is_dir() and RECORDS not in each.parts)
    return {f"/{each.relative_to(root)}": each.read_bytes() for each in found if each.name != IDENTITY}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def devices(tmp_path: Path, request: pytest.FixtureRequest) -> Devices:
    """A device, on a file system with and without O_TMPFILE."""
    (tmp_path / "dev1").mkdir()
    made = Devices(tmp_path, unnamed_files=request.param)
    made.usage("dev1")  # now it has its identity
    return made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The disk operations: `sync FILE`, `name FILE`, `sync DIRECTORY`, by the bytes in the file."""
    told: list[str] = []
    real_fsync, real_link, real_rename = os.fsync, os.link, os.rename

    def content(descriptor: int) -> str:
        with Path(f"/proc/self/fd/{descriptor}").open("rb") as file:
            return file.read().decode()

    def fsync(descriptor: int) -> None:
        is_directory = Path(f"/proc/self/fd/{descriptor}").is_dir()
        told.append(f"sync {'directory' if is_directory else content(descriptor)}")
        real_fsync(descriptor)

    def named(real: Callable[..., None]) -> Callable[..., None]:
        def call(source: str, target: str, **kwargs: int) -> None:
            if INCOMING in source:
                told.append(f"name {content(os.open(source, os.O_RDONLY, dir_fd=kwargs['src_dir_fd']))}")
            elif INCOMING not in target:
                told.append(f"name {Path(source).read_text()}")
            real(source, target, **kwargs)

        return call

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", named(real_link))
    monkeypatch.setattr(os, "rename", named(real_rename))
    return told


def test_order_of_syncs_and_names(devices: Devices, calls: list[str]) -> None:
    """For every file: its bytes, its name, its directory, in this order; a directory once for all its files."""
    store(devices, [SmallFile(path(9, directory), b"") for directory in (0, 1)])  # the directories are there now
    calls.clear()
    many = [SmallFile(path(number, number % 2), b"%d" % number) for number in range(6)]
    assert store(devices, many) == [None] * 6
    assert calls[-2:] == ["sync directory"] * 2
    assert calls.count("sync directory") == 2
    for number in range(6):
        assert calls.index(f"sync {number}") < calls.index(f"name {number}")
    assert {name: data for name, data in files(devices.docroot).items() if data} == {
        each.path: each.body for each in many
    }


def test_errors_are_per_file(devices: Devices) -> None:
    """A file that cannot be stored gets its error, and the others are stored; no descriptor stays open."""
    (devices.docroot / "dev1" / "file").touch()
    before = descriptors()
    right = hashlib.md5(b"right").digest()
    outcomes = store(
        devices,
        [
            SmallFile(path(1), b"one"),
            SmallFile("/dev1/../secret", b"x"),
            SmallFile("/dev1/usage", b"x"),
            SmallFile("/dev1/file/below", b"x"),
            SmallFile(path(2), b"wrong", right),
            SmallFile(path(3), b"right", right),
        ],
    )
    assert [type(each) for each in outcomes] == [
        type(None),
        InvalidPath,
        Reserved,
        PathConflict,
        WrongDigest,
        type(None),
    ]
    assert files(devices.docroot) == {path(1): b"one", path(3): b"right", "/dev1/file": b""}
    assert descriptors() == before


def test_the_last_of_two_files_with_one_name_stays(devices: Devices) -> None:
    """A file without a fid replaces an older one, and one of the same batch, in order."""
    name = "/dev1/names/tail-0"
    store(devices, [SmallFile(name, b"old")])
    assert store(devices, [SmallFile(name, b"new"), SmallFile(name, b"newer")]) == [None, None]
    assert files(devices.docroot) == {name: b"newer"}


def test_a_fid_keeps_its_content(devices: Devices) -> None:
    """Other content under an existing fid is refused, the same content is accepted, and `replace` replaces."""
    assert store(devices, [SmallFile(path(1), b"old")]) == [None]
    before = descriptors()
    outcomes = store(
        devices,
        [
            SmallFile(path(1), b"old"),
            SmallFile(path(1), b"new"),
            SmallFile(path(1), b"longer"),
            SmallFile(path(2), b""),
        ],
    )
    assert [type(each) for each in outcomes] == [type(None), OtherContent, OtherContent, type(None)]
    assert files(devices.docroot) == {path(1): b"old", path(2): b""}
    assert store(devices, [SmallFile(path(1), b"new", replace=True)]) == [None]
    assert files(devices.docroot) == {path(1): b"new", path(2): b""}
    assert descriptors() == before


def test_the_first_of_two_contents_of_one_fid_stays(devices: Devices) -> None:
    """Of two different contents for one fid in one batch the first is stored, and the second refused."""
    outcomes = store(devices, [SmallFile(path(1), b"one"), SmallFile(path(1), b"two"), SmallFile(path(1), b"one")])
    assert [type(each) for each in outcomes] == [type(None), OtherContent, type(None)]
    assert files(devices.docroot) == {path(1): b"one"}


def test_a_failed_sync_stores_nothing_visible(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose sync fails gets no name; if the sync of the directory fails all files get the error."""
    store(devices, [SmallFile(path(9), b"")])
    real = os.fsync

    def failing(descriptor: int) -> None:
        if (Path(f"/proc/self/fd/{descriptor}").is_dir()) is directories:
            raise OSError(errno.EIO, "bad disk")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    directories = False
    outcomes = store(devices, [SmallFile(path(1), b"a"), SmallFile(path(2), b"b")])
    assert [type(each) for each in outcomes] == [DeviceFailed] * 2
    assert files(devices.docroot) == {path(9): b""}
    directories = True
    outcomes = store(devices, [SmallFile(path(1), b"a"), SmallFile("/dev1/usage", b"b")])
    assert [type(each) for each in outcomes] == [DeviceFailed, Reserved]


def test_a_full_device_is_reported(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not fit is refused before anything is written."""
    facts = os.statvfs(devices.docroot)
    full = os.statvfs_result((*facts[:4], 0, *facts[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda _: full)
    assert [type(each) for each in store(devices, [SmallFile(path(1), b"a")])] == [DeviceFull]
    assert files(devices.docroot) == {}


def test_batched_deletions_are_durable(devices: Devices, calls: list[str]) -> None:
    """Each file gets its own result, and each directory is synced once, also for missing files."""
    store(devices, [SmallFile(path(number, number % 2), b"") for number in range(6)])
    calls.clear()
    before = descriptors()
    outcomes = deletions.delete(
        devices, [*(path(number, number % 2) for number in range(6)), path(7), "/dev1/0/000", "/dev1/usage", "/dev1/.."]
    )
    assert [type(each) for each in outcomes] == [type(None)] * 6 + [NoSuchFile, PathConflict, Reserved, InvalidPath]
    assert calls == ["sync directory"] * 3
    assert files(devices.docroot) == {}
    assert descriptors() == before
