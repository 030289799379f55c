"""The synchronous client against a real store: threads, forked processes, interruptions."""

from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tawara.client import Client
from tawara.model import errors
from tests.acceptance.cluster import DOMAIN, run

BIG = os.urandom(3_000_000)


@pytest.fixture
def trackers(tmp_path: Path) -> Iterator[str]:
    """The address of a store with one host."""
    with run(tmp_path, hosts=1) as store:
        yield store.trackers


def test_the_verbs_without_asyncio(trackers: str, tmp_path: Path) -> None:
    """The synchronous client stores, lists, streams, downloads and deletes."""
    with Client(trackers) as client:
        client.put(DOMAIN, "a", BIG)
        client.put(DOMAIN, "b", io.BytesIO(BIG), storage_class="one")
        assert list(client.list_keys(DOMAIN)) == ["a", "b"]
        assert b"".join(client.stream(DOMAIN, "a")) == BIG
        with client.open(DOMAIN, "b", start=5, end=1_500_000) as reading:
            assert reading.info.length == len(BIG)
            assert reading.length == 1_499_995
            assert b"".join(reading) == BIG[5:1_500_000]
        for chunk in client.stream(DOMAIN, "a"):  # left half-way
            assert chunk
            break
        client.download(DOMAIN, "a", tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == BIG
        client.delete(DOMAIN, "a")
        with pytest.raises(errors.UnknownKey):
            client.get(DOMAIN, "a")
        assert [each.name for each in client.domains()] == [DOMAIN]
    assert not [thread for thread in threading.enumerate() if thread.name == "tawara-client"]


def test_a_client_may_be_used_by_many_threads(trackers: str) -> None:
    """Threads share one client, also at its first use."""
    with Client(trackers) as client, ThreadPoolExecutor(16) as pool:

        def work(number: int) -> bytes:
            client.put(DOMAIN, f"k{number}", b"%d" % number)
            return client.get(DOMAIN, f"k{number}")

        assert list(pool.map(work, range(64))) == [b"%d" % number for number in range(64)]


def test_an_iteration_may_outlive_its_client(trackers: str) -> None:
    """An iterator that is dropped after `close`, or by the garbage collector in any thread, has no effect."""
    with Client(trackers) as client:
        client.put(DOMAIN, "k", BIG)
        left = client.stream(DOMAIN, "k")
        next(left)
        for _ in range(20):
            cycle: list[object] = [client.stream(DOMAIN, "k")]
            next(cycle[0])  # type: ignore[call-overload]  # it is the iterator
            cycle.append(cycle)
            del cycle
        engine = client._engine()

        async def collect() -> None:
            gc.collect()

        engine.run(collect())
        assert client.get(DOMAIN, "k") == BIG
    del left


def test_a_client_may_be_closed_and_used_again(trackers: str) -> None:
    """Closing ends the thread; the next verb starts a new one."""
    client = Client(trackers)
    client.put(DOMAIN, "k", b"1")
    client.close()
    client.close()
    assert client.get(DOMAIN, "k") == b"1"
    client.close()


_FORK = """
import os, sys
from tawara.client import Client
client = Client(sys.argv[1])
client.put("d", "parent", b"before")
child = os.fork()
if not child:
    client.put("d", "child", client.get("d", "parent"))
    client.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert client.get("d", "child") == b"before"
print("whole")
"""


@pytest.mark.slow
def test_a_client_works_after_a_fork(trackers: str) -> None:
    """Parent and child continue with one client each; the process ends cleanly without `close`."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORK, trackers], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr, done.returncode) == ("whole\n", "", 0)


_WAIT = """
import sys
from tawara.client import Client
class Never:
    def read(self, size):
        print("reading", flush=True)
        import time; time.sleep(1)
        return b"x"
client = Client(sys.argv[1])
try:
    client.put("d", "never", Never())
except KeyboardInterrupt:
    print("interrupted", client.exists("d", "never"))
"""


@pytest.mark.slow
def test_ctrl_c_ends_a_verb(trackers: str) -> None:
    """Ctrl-C during a call raises KeyboardInterrupt at once, nothing is stored, and the client still works."""
    process = subprocess.Popen([sys.executable, "-c", _WAIT, trackers], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert "interrupted False\n" in process.communicate(timeout=20)[0]
    assert time.monotonic() - began < 10


_STREAM = """
import asyncio, hashlib, resource, sys, tempfile
from pathlib import Path
from tests.acceptance.cluster import cluster

SIZE, PIECE = 300 * 1000 * 1000, bytes(range(250)) * 4000

async def main():
    with tempfile.TemporaryDirectory() as directory:
        async with cluster(Path(directory), hosts=1) as store, store.client() as client:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            async def source():
                for _ in range(SIZE // len(PIECE)):
                    yield PIECE
            await client.put("d", "big", source())
            hasher, expected = hashlib.sha1(), hashlib.sha1()
            async for chunk in client.stream("d", "big"):
                hasher.update(chunk)
            for _ in range(SIZE // len(PIECE)):
                expected.update(PIECE)
            assert hasher.digest() == expected.digest()
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(before, after, "kB", file=sys.stderr)
            assert after - before < 60_000, (before, after)

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_large_file_needs_little_memory() -> None:
    """300 MB are stored and read, by client and storage node in one process, with less than 60 MB more memory."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", _STREAM], cwd=root, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
