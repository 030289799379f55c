"""Pages of the files on a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tawara.disks import listing
from tawara.model import fid as fids
from tawara.wire import listing as wire


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    """A device with the files 1, 2, 1000, 2000001 and a few that are none."""
    for fid in (1, 2, 1000, 2_000_001):
        path = tmp_path / fids.relative_path(fid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * (fid % 7))
    near = (tmp_path / fids.relative_path(1)).parent
    (near / "notes.txt").touch()
    (near / "0000000003.fid").symlink_to("0000000001.fid")
    (near / "0000000004.fid").mkdir()
    for other in ("names", "00", "x", "1/0000", "0/000/x01"):
        (tmp_path / other).mkdir(parents=True)
    (tmp_path / "9").touch()
    (tmp_path / "8").symlink_to("0")
    opened = os.open(tmp_path, os.O_RDONLY)
    yield opened
    os.close(opened)


def test_all_files_of_a_small_device_are_on_one_page(top: int) -> None:
    """A page has the regular files at the paths of fids, with their sizes, in order, and nothing else."""
    assert listing.page(top, 0) == wire.encode([(1, 1), (2, 2), (1000, 1000 % 7), (2_000_001, 2_000_001 % 7)], None)


@pytest.mark.parametrize("limit", ["PAGE_FILES", "PAGE_SECONDS"])
def test_pages_continue_where_the_last_ended(top: int, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A page ends after so many files or seconds, with at least one directory, and names the next directory."""
    monkeypatch.setattr(listing, limit, 1 if limit == "PAGE_FILES" else -1)
    assert listing.page(top, 0) == wire.encode([(1, 1), (2, 2)], 1)
    assert listing.page(top, 1) == wire.encode([(1000, 6)], 2000)
    assert listing.page(top, 2000) == wire.encode([(2_000_001, 2_000_001 % 7)], None)
    assert listing.page(top, 2001) == wire.encode([], None)


def test_a_device_that_fails_is_an_error(top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error other than a missing directory ends the page, and no descriptor stays open."""
    before = len(os.listdir("/proc/self/fd"))
    real = os.open

    def fail(path: str, flags: int, **options: int) -> int:
        if path == "000":
            raise PermissionError(13, "no")
        return real(path, flags, **options)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(PermissionError):
        listing.page(top, 0)
    monkeypatch.undo()
    assert len(os.listdir("/proc/self/fd")) == before
