"""A file being received: when it gets its name, and what it replaces."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tawara.disks import incoming
from tawara.disks.incoming import IncomingFile, TargetDirectory
from tawara.disks.paths import INCOMING
from tawara.model.node_errors import DeviceFailed, DeviceFull, OtherContent, PathConflict, WrongDigest, WrongSize

DATA = b"content"
MD5 = hashlib.md5(DATA).digest()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "dev1" / "0").mkdir(parents=True)
    return tmp_path / "dev1"


@pytest.fixture
def receive(directory: Path) -> Iterator[Callable[..., IncomingFile]]:
    """Receives the file `0/x` of the device; all descriptors are closed in the end."""
    before = len(os.listdir("/proc/self/fd"))

    def begin(**options: Any) -> IncomingFile:
        return IncomingFile(_place(directory), "x", **options)

    yield begin
    assert len(os.listdir("/proc/self/fd")) == before


def _place(directory: Path) -> TargetDirectory:
    return TargetDirectory(directory=os.open(directory / "0", os.O_RDONLY), device=os.open(directory, os.O_RDONLY))


def _leftovers(directory: Path) -> list[str]:
    return os.listdir(directory / INCOMING) if (directory / INCOMING).exists() else []


def _refuse(monkeypatch: pytest.MonkeyPatch, name: str, number: int, when: Callable[..., bool]) -> None:
    """Make the function `name` of `os` fail with an error number for some calls, as some file systems do."""
    real = getattr(os, name)

    def function(*arguments: Any, **options: Any) -> Any:
        if when(*arguments, **options):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    monkeypatch.setattr(os, name, function)


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize("existing", [None, b"older"])
def test_a_file_appears_when_it_is_complete(
    directory: Path, receive: Callable[..., IncomingFile], unnamed: bool, existing: bytes | None
) -> None:
    """Until the commit the name has its old bytes, then all of the new ones; nothing else remains."""
    target = directory / "0" / "x"
    if existing is not None:
        target.write_bytes(existing)
    file = receive(unnamed=unnamed, size=len(DATA), md5=MD5)
    file.write(DATA[:3])
    file.write(DATA[3:])
    assert (target.read_bytes() if target.exists() else None) == existing
    file.commit()
    assert target.read_bytes() == DATA
    assert _leftovers(directory) == []


@pytest.mark.parametrize("unnamed", [True, False])
@pytest.mark.parametrize(
    ("sent", "options", "error"),
    [
        (DATA[:-1], {"size": 7}, WrongSize),
        (DATA + b"x", {"size": 7}, WrongSize),
        (b"Content", {"md5": MD5}, WrongDigest),
    ],
)
def test_wrong_bytes_are_discarded(
    directory: Path,
    receive: Callable[..., IncomingFile],
    unnamed: bool,
    sent: bytes,
    options: dict[str, Any],
    error: type[Exception],
) -> None:
    """A file with an unexpected length or digest raises, and nothing remains."""
    with receive(unnamed=unnamed, **options) as file, pytest.raises(error):
        file.write(sent)
        file.commit()
    assert os.listdir(directory / "0") == []
    assert _leftovers(directory) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL])
def test_a_file_system_without_unnamed_files(
    directory: Path, receive: Callable[..., IncomingFile], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Without O_TMPFILE a temporary name is used; a disk that fails is an error."""
    _refuse(monkeypatch, "open", number, lambda name, flags, *_, **__: flags & os.O_TMPFILE == os.O_TMPFILE)
    file = receive()
    assert len(_leftovers(directory)) == 1
    file.write(DATA)
    file.commit()
    assert (directory / "0" / "x").read_bytes() == DATA
    monkeypatch.undo()
    _refuse(monkeypatch, "open", errno.EIO, lambda name, flags, *_, **__: flags & os.O_TMPFILE == os.O_TMPFILE)
    with pytest.raises(DeviceFailed):
        receive()
    assert _leftovers(directory) == []


@pytest.mark.parametrize(("links", "unnamed"), [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize(
    ("existing", "error"), [(None, None), (DATA, None), (b"CONTENT", OtherContent), (b"longer content", OtherContent)]
)
def test_an_immutable_file_is_not_replaced(
    directory: Path,
    receive: Callable[..., IncomingFile],
    monkeypatch: pytest.MonkeyPatch,
    links: bool,
    unnamed: bool,
    existing: bytes | None,
    error: type[Exception] | None,
) -> None:
    """An immutable file is stored if its name is free or has the same bytes; with or without hard links."""
    target = directory / "0" / "x"
    if existing is not None:
        target.write_bytes(existing)
        inode = target.stat().st_ino
    if not links:
        _refuse(monkeypatch, "link", errno.EPERM, lambda *_, **__: True)
    file = receive(immutable=True, unnamed=unnamed)
    file.write(DATA)
    if error is None:
        file.commit()
        assert target.read_bytes() == DATA
    else:
        with pytest.raises(error):
            file.commit()
    if existing is not None:
        assert (target.read_bytes(), target.stat().st_ino) == (existing, inode)
    assert _leftovers(directory) == []


def test_a_directory_with_the_same_name(directory: Path, receive: Callable[..., IncomingFile]) -> None:
    """A name that is not a regular file raises PathConflict."""
    (directory / "0" / "x").mkdir()
    file = receive(immutable=True)
    with pytest.raises(PathConflict):
        file.commit()


def test_a_disk_that_fails_when_naming(
    directory: Path, receive: Callable[..., IncomingFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk error is not treated as missing support for hard links, and the file gets no name."""
    for unnamed, number in ((False, errno.EIO), (True, errno.EPERM)):
        _refuse(monkeypatch, "link", number, lambda *_, **__: True)
        file = receive(immutable=True, unnamed=unnamed)
        with pytest.raises(DeviceFailed):
            file.commit()
        monkeypatch.undo()
    assert os.listdir(directory / "0") == []


def test_an_existing_file_that_vanishes(
    directory: Path, receive: Callable[..., IncomingFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is deleted during the comparison leaves its name free."""
    target = directory / "0" / "x"
    target.write_bytes(b"deleted")

    def open_none(self: IncomingFile) -> bool | None:
        target.unlink()
        return None

    monkeypatch.setattr(IncomingFile, "_is_there_already", open_none)
    file = receive(immutable=True)
    file.write(DATA)
    file.commit()
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("unnamed", [True, False])
def test_a_file_may_become_a_link(directory: Path, receive: Callable[..., IncomingFile], unnamed: bool) -> None:
    """`become` links the other file's inode, drops the temporary file, and `copy` makes another inode."""
    source = directory / "source"
    source.write_bytes(DATA)
    descriptor = os.open(source, os.O_RDONLY)
    try:
        file = receive(unnamed=unnamed, size=len(DATA))
        file.become(descriptor)
        assert file.size == len(DATA)
        assert len(_leftovers(directory)) == 1
        file.commit()
        assert (directory / "0" / "x").samefile(source)
        file = receive(unnamed=unnamed, size=len(DATA))
        file.copy(descriptor, 0)
        with pytest.raises(WrongSize):
            file.copy(descriptor, len(DATA))
        file.commit()
        assert (directory / "0" / "x").read_bytes() == DATA
        assert not (directory / "0" / "x").samefile(source)
    finally:
        os.close(descriptor)
    assert _leftovers(directory) == []


@pytest.mark.parametrize(("number", "copied"), [(errno.EXDEV, True), (errno.ENOSYS, True), (errno.EIO, False)])
def test_a_copy_between_file_systems(
    directory: Path, receive: Callable[..., IncomingFile], monkeypatch: pytest.MonkeyPatch, number: int, copied: bool
) -> None:
    """If the kernel cannot copy between two files, the bytes are sent; a failing disk is an error."""
    source = directory / "source"
    source.write_bytes(b"xx" + DATA)
    _refuse(monkeypatch, "copy_file_range", number, lambda *_: True)
    with source.open("rb") as opened, receive(size=len(DATA)) as file:
        if copied:
            file.copy(opened.fileno(), 2)
            file.commit()
            assert (directory / "0" / "x").read_bytes() == DATA
        else:
            with pytest.raises(DeviceFailed):
                file.copy(opened.fileno(), 2)


def test_a_long_upload_is_synced_in_parts(
    receive: Callable[..., IncomingFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are synced whenever a certain amount has arrived, and at the end."""
    synced: list[int] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def sync(descriptor: int, real: Callable[[int], None] = real) -> None:
            synced.append(os.fstat(descriptor).st_size)
            real(descriptor)

        monkeypatch.setattr(os, name, sync)
    monkeypatch.setattr(incoming, "SYNC_EVERY", 10)
    with receive() as file:
        for _ in range(7):
            file.write(b"xxx")
        assert synced == [12]
        file.seal()
        assert synced == [12, 21]


def test_space_is_checked(directory: Path) -> None:
    """A file fits if the device has as many bytes available for users; one byte more does not."""
    place = _place(directory)
    try:
        facts = os.fstatvfs(place.device)
        place.check_space(0)
        with pytest.raises(DeviceFull):
            place.check_space(facts.f_blocks * facts.f_frsize + 1)
    finally:
        place.close()
        place.close()


def test_a_shared_directory_stays_open(directory: Path) -> None:
    """The descriptors of a shared directory belong to its owner; otherwise the file closes them."""
    place = _place(directory)
    for shared in (True, False):
        file = IncomingFile(place, "x", shared=shared)
        file.write(DATA)
        file.commit()
        assert (place.directory >= 0) is shared
