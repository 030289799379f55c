"""The file system of fsspec on a real store: fsspec's own tests of file systems, and what they do not ask for."""

from __future__ import annotations

import errno
import io
import os
import pickle
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.tests import abstract

from tawara.fsspec import IN_MEMORY, TawaraFileSystem
from tawara.model import errors
from tests.acceptance.cluster import DOMAIN, run


@pytest.fixture(scope="module")
def trackers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a store with one host."""
    with run(tmp_path_factory.mktemp("store"), hosts=1) as store:
        yield store.trackers


class Fixtures(abstract.AbstractFixtures):
    """The store's file system, as fsspec's tests want it."""

    @pytest.fixture
    def fs(self, trackers: str) -> Iterator[TawaraFileSystem]:
        fs = fsspec.filesystem("tawara", trackers=trackers, skip_instance_cache=True)
        yield fs
        fs.close()

    @pytest.fixture
    def fs_path(self) -> str:
        return DOMAIN

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    """fsspec's tests of copying within the store."""


class TestGet(abstract.AbstractGetTests, Fixtures):
    """fsspec's tests of fetching."""


class TestPut(abstract.AbstractPutTests, Fixtures):
    """fsspec's tests of storing."""


class TestOpenAndPipe(abstract.AbstractOpenTests, abstract.AbstractPipeTests, Fixtures):
    """fsspec's tests of opening and of storing bytes."""


@pytest.fixture
def fs(trackers: str) -> Iterator[TawaraFileSystem]:
    """The file system, with an empty domain at the end."""
    fs = fsspec.filesystem("tawara", trackers=trackers, skip_instance_cache=True)
    yield fs
    fs.rm(DOMAIN, recursive=True)
    fs.close()


def test_the_protocol_is_registered() -> None:
    """The installed package names the class for `tawara://`."""
    (entry,) = entry_points(group="fsspec.specs", name="tawara")
    assert entry.load() is TawaraFileSystem
    assert fsspec.get_filesystem_class("tawara") is TawaraFileSystem


def test_urls_and_text(fs: TawaraFileSystem, trackers: str) -> None:
    """A URL names domain and key; text is written and read through fsspec's layers, compression included."""
    for name in ("a.csv", "b.csv.gz"):
        url = f"tawara://{DOMAIN}/tables/{name}"
        with fsspec.open(url, "wt", trackers=trackers, compression="infer") as file:
            file.write("a,b\n1,2\n")
        with fsspec.open(url, "rt", trackers=trackers, compression="infer") as file:
            assert file.read() == "a,b\n1,2\n"
    assert fs.ls(f"tawara://{DOMAIN}/tables/", detail=False) == [f"{DOMAIN}/tables/a.csv", f"{DOMAIN}/tables/b.csv.gz"]
    fsspec.filesystem("tawara", trackers=trackers).close()


def test_listings(fs: TawaraFileSystem) -> None:
    """Directories are prefixes; `ls`, `find`, `glob`, `walk`, `info` and `du` agree about them."""
    fs.pipe({f"{DOMAIN}/x/{name}": b"12345" for name in ("1", "y/2", "y/z/3", "ü")} | {f"{DOMAIN}/x": b"file"})
    assert [each["name"] for each in fs.ls("")] == [DOMAIN]
    found = {each["name"]: (each["type"], each["size"]) for each in fs.ls(f"{DOMAIN}/x")}
    assert found == {f"{DOMAIN}/x/1": ("file", 5), f"{DOMAIN}/x/y": ("directory", 0), f"{DOMAIN}/x/ü": ("file", 5)}
    names = [f"{DOMAIN}/x/{each}" for each in ("1", "y/2", "y/z/3", "ü")]
    assert fs.find(f"{DOMAIN}/x") == names
    assert set(fs.find(DOMAIN, withdirs=True)) >= {DOMAIN, f"{DOMAIN}/x/y/z"}
    assert fs.find(DOMAIN, maxdepth=1) == [f"{DOMAIN}/x"]
    assert fs.find(f"{DOMAIN}/x", detail=True)[names[1]]["size"] == 5
    assert fs.glob(f"{DOMAIN}/x/y/*") == [f"{DOMAIN}/x/y/2", f"{DOMAIN}/x/y/z"]
    assert fs.du(f"{DOMAIN}/x") == 20
    assert [fs.isdir(f"{DOMAIN}/{each}") for each in ("", "x/y", "x/1", "none")] == [True, True, False, False]
    assert not fs.exists("none/k")
    for call in (fs.info, fs.ls, fs.cat_file, fs.open, fs.rm_file):
        with pytest.raises(FileNotFoundError):
            call(f"{DOMAIN}/none")
    with pytest.raises(FileNotFoundError):
        fs.mkdir("none/k")
    fs.makedirs(f"{DOMAIN}/k/l", exist_ok=True)
    assert fs.modified(f"{DOMAIN}/x/1").timestamp() > 1_000_000_000
    changed = fs.ukey(f"{DOMAIN}/x/1")
    fs.pipe_file(f"{DOMAIN}/x/1", b"new")
    assert fs.ukey(f"{DOMAIN}/x/1") != changed


def test_ranges(fs: TawaraFileSystem) -> None:
    """Ranges are read at random, of the content at the time of opening: a replaced file raises ESTALE."""
    data, path = os.urandom(300_000), f"{DOMAIN}/data"
    fs.pipe_file(path, data)
    assert fs.cat_file(path, start=10, end=20) == data[10:20]
    assert fs.cat_file(path, start=-10) == data[-10:]
    assert fs.cat_file(path, end=-299_990) == data[:10]
    assert fs.cat_ranges([path, path], [0, 100], [5, 1_000_000]) == [data[:5], data[100:]]
    with fs.open(path, block_size=1000) as file:
        file.seek(-7, io.SEEK_END)
        assert file.read() == data[-7:]
        again = pickle.loads(pickle.dumps(file))
        file.seek(0)
        assert file.read(3) == data[:3]
        fs.pipe_file(path, b"replaced")
        file.seek(200_000)
        with pytest.raises(OSError, match="replaced while it was open") as caught:
            file.read(1)
        assert caught.value.errno == errno.ESTALE
    again.fs.close()


@pytest.mark.parametrize("size", [0, 5, IN_MEMORY + 1])
def test_a_file_is_stored_when_it_is_closed(fs: TawaraFileSystem, size: int) -> None:
    """Before a written file is closed, its path has the old content; it is then replaced in one step."""
    data, path = os.urandom(size), f"{DOMAIN}/written"
    fs.pipe_file(path, b"old")
    with fs.open(path, "wb", storage_class="one", content_type="text/x-mine") as file:
        for start in range(0, size, 1_000_000):
            file.write(data[start : start + 1_000_000])
        assert fs.cat_file(path) == b"old"
    assert fs.cat_file(path) == data
    assert (fs.info(path)["storage_class"], fs.info(path)["content_type"]) == ("one", "text/x-mine")


def test_an_exception_stores_nothing(fs: TawaraFileSystem) -> None:
    """Neither a block left by an exception, nor a transaction, nor a file that is forgotten stores a part of a file."""
    path = f"{DOMAIN}/half"
    with pytest.raises(ZeroDivisionError), fs.open(path, "wb") as file:
        file.write(b"half")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), fs.transaction:
        with fs.open(path, "wb") as file:
            file.write(b"whole")
        raise ZeroDivisionError
    forgotten = fs.open(path, "wb")
    forgotten.write(b"x")
    del forgotten
    assert not fs.exists(path)
    with fs.transaction:
        with fs.open(path, "wb") as file:
            file.write(b"whole")
        assert not fs.exists(path)
    assert fs.cat_file(path) == b"whole"
    with pytest.raises(ValueError, match="never changed"):
        fs.open(path, "ab")
    with pytest.raises(IsADirectoryError):
        fs.pipe_file(DOMAIN, b"x")


def test_moving_and_removing(fs: TawaraFileSystem) -> None:
    """A file is renamed without copying, also onto another; a directory is moved and removed with all its files."""
    fs.pipe({f"{DOMAIN}/from/{each}": each.encode() for each in ("a", "b/c")})
    fid = fs.info(f"{DOMAIN}/from/a")["fid"]
    fs.mv(f"{DOMAIN}/from/a", f"{DOMAIN}/from/moved")
    assert fs.info(f"{DOMAIN}/from/moved")["fid"] == fid
    fs.mv(f"{DOMAIN}/from/moved", f"{DOMAIN}/from/b/c")
    assert fs.cat_file(f"{DOMAIN}/from/b/c") == b"a"
    fs.mv(f"{DOMAIN}/from/b/c", f"{DOMAIN}/from/b/c")
    fs.mv(f"{DOMAIN}/from", f"{DOMAIN}/to", recursive=True)
    assert fs.find(DOMAIN) == [f"{DOMAIN}/to/b/c"]
    with pytest.raises(FileNotFoundError):
        fs.rm(f"{DOMAIN}/to")
    fs.rm(f"{DOMAIN}/to", recursive=True)
    assert not fs.exists(f"{DOMAIN}/to")


async def test_in_an_event_loop(trackers: str) -> None:
    """With asynchronous=True the methods are coroutines of the caller's loop."""
    fs = TawaraFileSystem(trackers, asynchronous=True, skip_instance_cache=True)
    await fs._pipe_file(f"{DOMAIN}/async", b"hello")
    assert await fs._cat(f"{DOMAIN}/async") == b"hello"
    await fs._rm(f"{DOMAIN}/async")
    await fs._client.close()


def test_failures_are_os_errors(tmp_path: Path) -> None:
    """A store that cannot be reached is an OSError that keeps its cause, as programs with files expect it."""
    fs: Any = TawaraFileSystem("127.0.0.1:1", skip_instance_cache=True)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1") as caught:
        fs.cat_file(f"{DOMAIN}/k")
    assert isinstance(caught.value.__cause__, errors.UnavailableError)
    fs.close()
