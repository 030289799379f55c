"""The main task on real input: ten thousand files, one of more than 4 GiB, and a kill in the middle."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tawara.model.fid import path as fid_path
from tests.acceptance.store import TAWARA, Store, peak_memory

FILES = 10_000
BIG = 4 * 1024**3 + 123_457
RESIDENT = 150_000_000
SETTLED_SECONDS = 180.0


def real_files(root: Path, count: int) -> Iterator[Path]:
    """Small regular files of the machine, in a fixed order."""
    for directory, subdirectories, names in os.walk(root):
        subdirectories.sort()
        for name in sorted(names):
            file = Path(directory, name)
            if not file.is_symlink() and file.is_file() and file.stat().st_size < 200_000:
                yield file
                count -= 1
                if count == 0:
                    return


def copy_tree(target: Path, count: int) -> dict[str, str]:
    """Copy `count` real files below `target`; relative name -> SHA-256."""
    digests: dict[str, str] = {}
    for root in (Path(sys.base_prefix, "lib"), Path("/usr/share"), Path("/usr/lib")):
        for file in real_files(root, count - len(digests)) if len(digests) < count else ():
            name = str(file).lstrip("/")
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / name)
            digests[name] = hashlib.sha256((target / name).read_bytes()).hexdigest()
    assert len(digests) == count
    return digests


def big_content() -> Iterator[bytes]:
    """BIG bytes that do not repeat within any block."""
    block = bytearray(random.Random(4).randbytes(1024 * 1024 + 7))
    left = BIG
    number = 0
    while left:
        block[:8] = number.to_bytes(8, "big")
        piece = bytes(block[:left])
        yield piece
        left -= len(piece)
        number += 1


class Disks:
    """The contents of the store's database and devices, read from outside."""

    def __init__(self, store: Store) -> None:
        self.devices = store.directory / "devices"
        self.database = sqlite3.connect(f"file:{store.directory}/tawara.db?mode=ro", uri=True)

    def replicas(self) -> dict[str, list[Path]]:
        """Key -> the files that hold its replicas."""
        found: dict[str, list[Path]] = {}
        for key, fid, devid in self.database.execute(
            "SELECT f.dkey, f.fid, o.devid FROM file f LEFT JOIN file_on o ON o.fid = f.fid"
        ):
            files = found.setdefault(key, [])
            if devid is not None:
                files.append(self.devices / fid_path(devid, fid).lstrip("/"))
        return found

    def wait_settled(self) -> None:
        """Wait until no file waits for replication or deletion, and no copy is running."""
        until = time.monotonic() + SETTLED_SECONDS
        tables = ("file_to_replicate", "file_to_delete2", "tawara_copy")
        counts = "SELECT " + ", ".join(f"(SELECT COUNT(*) FROM {table})" for table in tables)
        while any(left := self.database.execute(counts).fetchone()):
            assert time.monotonic() < until, f"left in {tables}: {left}"
            time.sleep(0.2)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that can be killed."""
    one = Store(tmp_path / "store")
    try:
        yield one
    finally:
        one.kill()
        shutil.rmtree(tmp_path, ignore_errors=True)


def assert_whole(store: Store, digests: dict[str, str]) -> None:
    """Every file is on two devices, and each replica has the stored content."""
    replicas = Disks(store).replicas()
    for key, digest in digests.items():
        files = replicas[key]
        assert len(files) == 2, (key, files)
        assert len({file.relative_to(store.directory / "devices").parts[0] for file in files}) == 2
        for file in files:
            assert hashlib.sha256(file.read_bytes()).hexdigest() == digest, (key, file)


def sample_over_http(store: Store, digests: dict[str, str]) -> None:
    """A reader gets the same content through the gateway."""
    for key in random.Random(1).sample(sorted(digests), 200):
        url = f"http://{store.gateway}/files/{quote(key)}"
        with urllib.request.urlopen(url, timeout=20) as response:
            assert hashlib.sha256(response.read()).hexdigest() == digests[key]


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_ten_thousand_files_and_a_kill(store: Store, tmp_path: Path) -> None:
    """Acknowledged files survive SIGKILL in the middle of an upload; the unfinished upload leaves nothing."""
    first, second = tmp_path / "first", tmp_path / "second"
    digests = copy_tree(first, FILES)
    again = {f"again/{name}": digest for name, digest in list(digests.items())[:3000]}
    for name in again:
        (second / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(first / name.removeprefix("again/"), second / name)

    store.start()
    store.run("put", "-r", f"{first}/", "files/", timeout=600)

    upload = subprocess.Popen(
        [*TAWARA, "put", "--json", "-r", f"{second}/", "files/"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TAWARA_TRACKERS": store.tracker},
        text=True,
    )
    assert upload.stdout is not None
    acknowledged = [json.loads(upload.stdout.readline()) for _ in range(500)]
    half_way = subprocess.Popen(
        [
            "curl",
            "-sS",
            "-T",
            "-",
            "-H",
            f"Authorization: Bearer {store.key}",
            f"http://{store.gateway}/files/half-way",
        ],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert half_way.stdin is not None
    half_way.stdin.write(b"x" * 3_000_000)
    half_way.stdin.flush()
    store.kill()
    half_way.stdin.close()
    half_way.wait(30)
    out, err = upload.communicate(timeout=120)
    assert upload.returncode != 0
    assert "Traceback" not in err
    acknowledged += [json.loads(line) for line in out.splitlines()]
    stored = {each["key"] for each in acknowledged if each["outcome"] == "stored"}
    assert 500 <= len(stored) < len(again), "the kill came too late to show anything"

    store.start()
    disks = Disks(store)
    disks.wait_settled()
    assert_whole(store, digests | {key: again[key] for key in stored})
    replicas = disks.replicas()
    assert "half-way" not in replicas
    unnamed = {key for key in replicas if key not in digests and key not in again}
    assert not unnamed
    sample_over_http(store, digests)

    store.run("put", "-r", f"{second}/", "files/", timeout=600)
    disks.wait_settled()
    assert_whole(store, digests | again)
    assert store.stop() < 5


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_file_over_4_gib_in_little_memory(store: Store, tmp_path: Path) -> None:
    """More than 4 GiB are stored, on two devices, and read by tracker and by gateway, with every process below 150
    MB."""
    store.start()
    put = subprocess.Popen(
        [*TAWARA, "put", "-", "files/big"],
        stdin=subprocess.PIPE,
        env={**os.environ, "TAWARA_TRACKERS": store.tracker},
    )
    assert put.stdin is not None
    expected = hashlib.sha256()
    put_peak = 0
    for piece in big_content():
        expected.update(piece)
        put.stdin.write(piece)
    put_peak = peak_memory(put.pid)
    put.stdin.close()
    assert put.wait(300) == 0
    Disks(store).wait_settled()
    (files,) = Disks(store).replicas().values()
    assert len(files) == 2
    assert {file.stat().st_size for file in files} == {BIG}

    by_gateway = hashlib.sha256()
    with urllib.request.urlopen(f"http://{store.gateway}/files/big", timeout=60) as response:
        assert int(response.headers["Content-Length"]) == BIG
        while piece := response.read(1 << 20):
            by_gateway.update(piece)
    assert by_gateway.hexdigest() == expected.hexdigest()

    get = subprocess.Popen(
        [*TAWARA, "get", "files/big", "-"],
        stdout=subprocess.PIPE,
        env={**os.environ, "TAWARA_TRACKERS": store.tracker},
    )
    assert get.stdout is not None
    by_tracker = hashlib.sha256()
    get_peak = 0
    while piece := get.stdout.read(1 << 20):
        by_tracker.update(piece)
        get_peak = max(get_peak, peak_memory(get.pid))
    get.stdout.close()
    assert get.wait(60) == 0
    assert by_tracker.hexdigest() == expected.hexdigest()

    peaks = {pid: peak_memory(pid) for pid in store.processes()}
    assert len(peaks) >= 3, "the store, nginx, and its worker"
    assert max(put_peak, get_peak, *peaks.values()) < RESIDENT, (put_peak, get_peak, peaks)
