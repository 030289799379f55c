"""The write lock among processes on a SQLite file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from tawara.metadata import cluster, sqlite
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.write_lock import WriteLock
from tawara.model.errors import Db, DomainExists

_HOLDER = """
import sys, time
from pathlib import Path
from tawara.metadata.write_lock import WriteLock
with WriteLock(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database."""
    sqlite.create(tmp_path / "t.db")
    return tmp_path / "t.db"


def _wait_until_someone_is_next(path: Path) -> None:
    lock = os.open(f"{path}-next", os.O_RDONLY)
    end = time.monotonic() + 10
    try:
        while time.monotonic() < end:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            fcntl.flock(lock, fcntl.LOCK_UN)
            time.sleep(0.002)
    finally:
        os.close(lock)
    raise AssertionError("no process waits")


def test_a_waiting_writer_precedes_the_last_one(path: Path) -> None:
    """A writer that continues at once lets a waiting one go first, every time."""
    order: list[str] = []
    with closing(WriteLock(path)) as ours, closing(WriteLock(path)) as theirs:

        def other() -> None:
            with theirs:
                order.append("theirs")

        for _ in range(20):
            with ours:
                waiting = threading.Thread(target=other)
                waiting.start()
                _wait_until_someone_is_next(path)
            with ours:
                order.append("ours")
            waiting.join()
    assert order == ["theirs", "ours"] * 20


def test_a_writer_that_dies(path: Path) -> None:
    """The lock of a killed process passes to the next."""
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mine\n"
        holder.kill()
    with closing(WriteLock(path)) as turn, turn:
        pass


def test_the_lock_files_have_the_databases_owner(path: Path) -> None:
    """The lock files can be opened by exactly those who can open the database."""
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    with closing(WriteLock(path)):
        for lock in (Path(f"{path}-next"), Path(f"{path}-turn")):
            facts, ours = lock.stat(), path.stat()
            assert (facts.st_mode & 0o777 & ~0o640, facts.st_uid, facts.st_gid) == (0, ours.st_uid, ours.st_gid)


async def test_a_writer_that_hangs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the lock too long, changes fail with Db and are not made later; then writing
    continues."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    metadata = SqliteMetadata.open(path)
    with closing(WriteLock(path)) as other:
        with other:
            for name in ("a", "b", "c"):
                async with asyncio.timeout(60):
                    with pytest.raises(Db):
                        await metadata.write(cluster.create_domain, name)
        monkeypatch.setattr(sqlite, "BUSY_SECONDS", 60)
        await metadata.write(cluster.create_domain, "b")
        with pytest.raises(DomainExists):
            await metadata.write(cluster.create_domain, "b")
    await metadata.close()
