"""Files on devices: receiving, replacing, reading, deleting."""

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
from tawara.model.cluster import HashType
from tawara.model.errors import TawaraError
from tawara.model.node_errors import (
    DeviceFull,
    DirectoryInstead,
    NoSuchDevice,
    NoSuchFile,
    OtherContent,
    PathConflict,
    Reserved,
    WrongDigest,
    WrongSize,
)

PATH = "/dev1/0/000/000/0000000001.fid"


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def devices(tmp_path: Path, request: pytest.FixtureRequest) -> Devices:
    """A device, on a file system with and without O_TMPFILE."""
    (tmp_path / "dev1").mkdir()
    made = Devices(tmp_path, unnamed_files=request.param)
    made.usage("dev1")  # now it has its identity
    return made


def put(devices: Devices, data: bytes, path: str = PATH) -> None:
    with devices.receive(path) as incoming:
        incoming.write(data)
        incoming.commit()


def read(devices: Devices, path: str = PATH) -> bytes:
    with devices.open(path) as file:
        return file.read(0, file.size)


def delete(devices: Devices, path: str) -> None:
    (outcome,) = deletions.delete(devices, [path])
    if outcome is not None:
        raise outcome


def files(root: Path) -> list[str]:
    """All files except those that identify the device."""
    found = (each.relative_to(root) for each in root.rglob("*") if not each.is_dir() and each.name != IDENTITY)
    return sorted(str(each) for each in found if each.parts[0] != RECORDS)


def test_a_committed_file_can_be_read(devices: Devices) -> None:
    """A committed file can be read, and has its size and digests."""
    put(devices, b"abc")
    assert read(devices) == b"abc"
    assert devices.size(PATH) == 3
    assert devices.digest(PATH, HashType.MD5) == hashlib.md5(b"abc").digest()
    assert devices.digest(PATH, HashType.SHA1) == hashlib.sha1(b"abc").digest()
    assert files(devices.docroot) == [PATH[1:]]


def test_nothing_is_visible_before_the_commit(devices: Devices) -> None:
    """A file being received has no visible name, and nothing remains of an aborted one."""
    with devices.receive(PATH) as incoming:
        incoming.write(b"abc")
        with pytest.raises(NoSuchFile):
            devices.open(PATH)
    assert files(devices.docroot) == []


def test_a_large_upload_does_not_replace_a_fid(devices: Devices) -> None:
    """A fid that appears during another upload of it keeps its content; the same content is accepted."""
    content = os.urandom(3_000_000)
    with devices.receive(PATH) as other, devices.receive(PATH) as same:
        other.write(content[:-1] + bytes([content[-1] ^ 1]))
        same.write(content)
        put(devices, content)
        with pytest.raises(OtherContent):
            other.commit()
        same.commit()
    assert read(devices) == content
    assert files(devices.docroot) == [PATH[1:]]


def test_a_file_system_without_links(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where link(2) is not supported a fid keeps its content, too."""

    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links")

    named = Devices(devices.docroot, unnamed_files=False)
    monkeypatch.setattr(os, "link", link)
    put(named, b"old")
    put(named, b"old")
    with pytest.raises(OtherContent):
        put(named, b"new")
    assert read(named) == b"old"


def test_a_file_is_replaced_whole(devices: Devices) -> None:
    """Readers see the old bytes until the commit of a replacement and the new ones after it."""
    put(devices, b"old")
    with devices.receive(PATH, replace=True) as incoming:
        incoming.write(b"newer")
        assert read(devices) == b"old"
        incoming.commit()
    assert read(devices) == b"newer"
    assert files(devices.docroot) == [PATH[1:]]


def test_sync_comes_before_the_name(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced, then named, then its directory is synced."""
    put(devices, b"", PATH.replace("1.fid", "2.fid"))
    calls: list[str] = []

    def watched(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            calls.append(name)
            return real(*args, **kwargs)

        return call

    for name in ("fsync", "link", "rename"):
        monkeypatch.setattr(os, name, watched(name))
    put(devices, b"abc")
    assert calls in (["fsync", "link", "fsync"], ["fsync", "rename", "fsync"])


def test_every_new_directory_is_synced_once_in_its_parent(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file below new directories syncs their entries, the second does not."""
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put(devices, b"abc")
    tops = [str(devices.docroot / part) for part in ("dev1", "dev1/0", "dev1/0/000")]
    assert [each for each in synced if each in tops] == tops
    synced.clear()
    put(devices, b"abc", PATH.replace("1.fid", "2.fid"))
    assert not [each for each in synced if each in tops]


@pytest.mark.parametrize(
    ("expect", "error"),
    [({"md5": b"\0" * 16}, WrongDigest), ({"size": 4}, WrongSize), ({"size": 2}, WrongSize)],
)
def test_a_mismatch_keeps_the_old_file(
    devices: Devices, expect: dict[str, bytes | int], error: type[TawaraError]
) -> None:
    """A wrong digest, a short or a long body is an error, and the old file stays."""
    put(devices, b"old")
    with pytest.raises(error), devices.receive(PATH, **expect) as incoming:  # type: ignore[arg-type] # one or the other
        incoming.write(b"abc")
        incoming.commit()
    assert read(devices) == b"old"
    assert files(devices.docroot) == [PATH[1:]]


def test_a_file_that_does_not_fit_is_refused_at_once(devices: Devices) -> None:
    """A size beyond the free space is refused before a byte is sent."""
    with pytest.raises(DeviceFull):
        devices.receive(PATH, size=2**60)


def test_symbolic_links_are_not_followed(devices: Devices, tmp_path: Path) -> None:
    """No link below a device is followed: not to read, write, delete or create directories."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (tmp_path / "dev1" / "out").symlink_to(outside)
    (tmp_path / "dev1" / "file").symlink_to(outside / "secret")
    for path in ("/dev1/out/secret", "/dev1/file"):
        with pytest.raises(NoSuchFile):
            devices.open(path)
    with pytest.raises(NoSuchFile):
        delete(devices, "/dev1/out/secret")
    with pytest.raises(PathConflict):
        devices.receive("/dev1/out/new")
    with pytest.raises(PathConflict):
        devices.make_directory("/dev1/out/new")
    put(devices, b"mine", "/dev1/file")
    assert (outside / "secret").read_text() == "secret"
    assert os.listdir(outside) == ["secret"]
    assert read(devices, "/dev1/file") == b"mine"


def test_a_device_itself_may_be_a_link(devices: Devices, tmp_path: Path) -> None:
    """devN may be a link to where an administrator mounted the disk."""
    (tmp_path / "mnt").mkdir()
    (tmp_path / "dev2").symlink_to(tmp_path / "mnt")
    put(devices, b"abc", "/dev2/x")
    assert (tmp_path / "mnt" / "x").read_bytes() == b"abc"
    assert devices.names() == ["dev1", "dev2"]


def test_deleting(devices: Devices) -> None:
    """A deleted file no longer exists; a missing file and a directory raise different errors."""
    put(devices, b"abc")
    delete(devices, PATH)
    with pytest.raises(NoSuchFile):
        delete(devices, PATH)
    with pytest.raises(PathConflict):
        delete(devices, "/dev1/0/000")


def test_the_usage_file_is_protected(devices: Devices) -> None:
    """Clients can neither write nor delete the usage file."""
    with pytest.raises(Reserved):
        devices.receive("/dev1/usage")
    with pytest.raises(Reserved):
        delete(devices, "/dev1/usage")


def test_only_regular_files_are_read(devices: Devices, tmp_path: Path) -> None:
    """Directories, missing devices and pipes are not read, and nothing hangs."""
    os.mkfifo(tmp_path / "dev1" / "pipe")
    with pytest.raises(DirectoryInstead):
        devices.open("/dev1")
    with pytest.raises(NoSuchDevice):
        devices.open("/dev7/x")
    with pytest.raises(NoSuchDevice):
        devices.receive("/dev7/x")
    with pytest.raises(NoSuchFile):
        devices.open("/dev1/pipe")


@pytest.mark.parametrize("link", [False, True])
def test_adopting_a_local_file(devices: Devices, tmp_path: Path, link: bool) -> None:
    """A complete local file becomes a device's file, by copy or by link, unless the fid has other content."""
    source = tmp_path / "body"
    source.write_bytes(b"x" * 100_000)
    put(devices, b"old")
    with pytest.raises(OtherContent):
        list(devices.adopt(PATH, source, link=link))
    assert read(devices) == b"old"
    delete(devices, PATH)
    assert list(devices.adopt(PATH, source, link=link)) == ([] if link else [100_000])
    assert list(devices.adopt(PATH, source, link=link)) == ([] if link else [100_000]), "doing it again changes nothing"
    assert read(devices) == b"x" * 100_000
    assert os.path.samefile(source, tmp_path / PATH[1:]) is link
    assert files(devices.docroot) == ["body", PATH[1:]]


def test_usage_is_never_zero(devices: Devices) -> None:
    """The usage is at least 1, since trackers take 0 for a device that is not ready."""
    usage = devices.usage("dev1")
    assert usage.used >= 1
    assert usage.total == usage.used + usage.available


def test_sweeping_removes_leftovers_and_keeps_uploads(tmp_path: Path) -> None:
    """Files of a dead writer are removed; a file being written stays, and can still be committed."""
    (tmp_path / "dev1" / INCOMING).mkdir(parents=True)
    (tmp_path / "dev1" / INCOMING / "0123").write_bytes(b"half")
    devices = Devices(tmp_path, unnamed_files=False)
    with devices.receive(PATH) as incoming:
        incoming.write(b"abc")
        assert Devices(tmp_path).sweep() == 1
        incoming.commit()
    assert read(devices) == b"abc"
    assert files(tmp_path) == [PATH[1:]]


def test_no_descriptor_stays_open(devices: Devices, tmp_path: Path) -> None:
    """Neither success nor failure keeps a descriptor, so a disk can be unmounted at any time."""
    before = len(os.listdir("/proc/self/fd"))
    test_symbolic_links_are_not_followed(devices, tmp_path)
    test_a_file_that_does_not_fit_is_refused_at_once(devices)
    test_deleting(devices)
    test_only_regular_files_are_read(devices, tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
