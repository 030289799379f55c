"""The directory in which nginx receives bodies."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from tawara.gateway.spool import BODIES, Spool, SpoolFull


def test_the_spool_is_for_its_user_only(tmp_path: Path) -> None:
    """The directories are created with their parents, for this user only; `make` tells whether it was needed."""
    spool = Spool(tmp_path / "a" / "b")
    assert spool.make() is True
    assert spool.make() is False
    assert [path.stat().st_mode & 0o777 for path in (spool.directory, spool.bodies)] == [0o700, 0o700]


def test_an_emptied_spool_has_no_bodies(tmp_path: Path) -> None:
    """`empty` removes earlier bodies and leaves a directory, also where none was."""
    spool = Spool(tmp_path)
    spool.empty()
    (spool.bodies / "7").write_bytes(b"x")
    spool.empty()
    assert os.listdir(spool.bodies) == []


@pytest.mark.parametrize(
    ("size", "facts", "full"),
    [
        (999 * 4096, (4096, 1000, 10, 5), False),
        (999 * 4096 + 1, (4096, 1000, 10, 5), True),  # the block of the directory entry is left free
        (0, (4096, 0, 10, 5), True),
        (0, (4096, 1, 10, 0), True),  # no inode is left
        (0, (4096, 1, 0, 0), False),  # a file system without a fixed number of inodes
    ],
)
def test_a_body_has_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, facts: tuple[int, ...], full: bool
) -> None:
    """A body fits if its bytes and one more block are available, and an inode where these are counted."""
    names = ("f_frsize", "f_bavail", "f_files", "f_favail")
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**dict(zip(names, facts, strict=True))))
    if full:
        with pytest.raises(SpoolFull):
            Spool(tmp_path).check(size)
    else:
        Spool(tmp_path).check(size)


def test_a_removed_spool_is_created_again(tmp_path: Path) -> None:
    """`check` creates a missing directory; where that is impossible the spool counts as full."""
    spool = Spool(tmp_path / "spool")
    spool.check(0)
    assert spool.bodies.is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolFull):
        Spool(tmp_path / "file" / "below").check(0)


@pytest.mark.parametrize("name", ["", "7", "other/7", f"{BODIES}/x", f"{BODIES}/../7", f"/{BODIES}/7", f"{BODIES}/a/7"])
def test_only_files_of_the_spool_are_bodies(tmp_path: Path, name: str) -> None:
    """A name from nginx means a numbered file of the directory of bodies, and nothing else."""
    spool = Spool(tmp_path)
    assert spool.body(name) is None
    assert spool.body(f"{BODIES}/0000000007") == spool.bodies / "0000000007"


def test_names_and_removal(tmp_path: Path) -> None:
    """Only numbered files are bodies; those that are gone already are no error."""
    spool = Spool(tmp_path)
    spool.make()
    for name in ("1", "2", "x"):
        (spool.bodies / name).touch()
    assert spool.names() == {"1", "2"}
    spool.remove({"1", "3"})
    assert spool.names() == {"2"}
