"""Separate daemons on one database do the same as `tawara up`, and any of them may be killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tawara.client import AsyncClient
from tawara.model.errors import TawaraError
from tests.acceptance.daemons import DOMAIN, SeparateDaemons, alive, separate_daemons
from tests.acceptance.store import STOP_SECONDS, TAWARA
from tests.contract.empty_database import empty_database
from tests.contract.servers import Server

Servers = Callable[[str], Server]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def database(request: pytest.FixtureRequest, database_servers: Servers, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    with empty_database(request.param, tmp_path, database_servers, "apart") as url:
        yield url


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def devcount(store: SeparateDaemons, key: str) -> int:
    answer = store.ask(b"file_info domain=%s&key=%s" % (DOMAIN.encode(), key.encode())).decode()
    return int(dict(each.split("=") for each in answer[3:].strip().split("&"))["devcount"])


def test_separate_daemons_work_together(tmp_path: Path, database: str) -> None:
    """Files stored by command line and by HTTP are copied by the workers to the other host, and can be read through
    every interface; stopping is fast."""
    with separate_daemons(tmp_path, database) as store:
        store.start()
        assert len(store.daemons["tracker"].children()) == 2
        store.run("put", "-", f"{DOMAIN}/by-line", input="hello")
        upload = urllib.request.Request(f"http://{store.gateway}/{DOMAIN}/by-http", b"hello", method="PUT")
        upload.add_header("Authorization", "Bearer a key for the tests only")
        assert urllib.request.urlopen(upload, timeout=20).status in (200, 201, 204)
        for key in ("by-line", "by-http"):
            assert store.run("get", f"{DOMAIN}/{key}", "-") == "hello"
            assert urllib.request.urlopen(f"http://{store.gateway}/{DOMAIN}/{key}", timeout=20).read() == b"hello"
            until(lambda key=key: devcount(store, key) == 2)  # type: ignore[misc] # bound at once
        store.run("rm", f"{DOMAIN}/by-line")
        until(lambda: len(list(tmp_path.glob("h*/dev*/**/*.fid"))) == 2)
        for daemon in store.daemons.values():
            assert daemon.stop() < STOP_SECONDS


@pytest.mark.timeout(330)
async def test_acknowledged_files_survive_any_kill(tmp_path: Path, database: str) -> None:
    """After kill -9 of each daemon in turn under load, acknowledged files are complete, and get their copies."""
    with separate_daemons(tmp_path, database) as store:
        await asyncio.to_thread(store.start)
        stored: dict[str, bytes] = {}
        ended = asyncio.Event()

        async def client(name: int) -> None:
            rng = random.Random(name)
            async with AsyncClient(store.tracker, connect_timeout=1, reply_timeout=10, stall_timeout=5) as client:
                while not ended.is_set():
                    key, content = f"{name}/{rng.random()}", rng.randbytes(rng.choice((10, 1000, 100_000)))
                    try:
                        await client.put(DOMAIN, key, content)
                    except TawaraError:
                        continue  # not acknowledged
                    stored[key] = content
                    earlier = rng.choice(list(stored))
                    try:
                        assert await client.get(DOMAIN, earlier) == stored[earlier]
                    except TawaraError as error:
                        # Its only copy may be on a node that is down now; but no reply may say that it is unknown.
                        assert error.code != "unknown_key", earlier

        async def some_more() -> None:
            wanted = len(stored) + 20
            async with asyncio.timeout(60):
                while len(stored) < wanted:
                    for task in clients:
                        assert not task.done() or task.result() is None
                    await asyncio.sleep(0.02)

        clients = [asyncio.create_task(client(name)) for name in range(4)]
        try:
            await some_more()
            for name in ("tracker", "node1", "workers", "node2", "gateway"):
                daemon = store.daemons[name]
                for child in daemon.children()[:1] if name == "tracker" else ():
                    os.kill(child, signal.SIGKILL)  # its parent starts another
                    await some_more()
                    await asyncio.to_thread(until, lambda: len(store.daemons["tracker"].children()) == 2)
                daemon.kill()
                if name not in ("tracker",):
                    await some_more()
                await asyncio.to_thread(daemon.start)
                await some_more()
        finally:
            ended.set()
            await asyncio.gather(*clients)
        store.ask(b"replicate_now")
        async with AsyncClient(store.tracker) as reader:
            for key, content in stored.items():
                assert await reader.get(DOMAIN, key) == content
            # A place at which bytes may still come late is not tried again before a minute has passed.
            async with asyncio.timeout(150):
                for key in stored:
                    while (await reader.info(DOMAIN, key)).copies < 2:
                        await asyncio.sleep(0.1)


def test_processes_end_with_their_parent(tmp_path: Path) -> None:
    """After kill -9 of the parent its processes end soon, and the port is free."""
    with separate_daemons(tmp_path, f"sqlite://{tmp_path}/tawara.db") as store:
        tracker = store.daemons["tracker"]
        for _ in range(2):
            tracker.start()
            family = tracker.children()
            assert len(family) == 2
            tracker.kill()
            until(lambda family=family: not any(map(alive, family)), STOP_SECONDS)  # type: ignore[misc] # bound at once


def test_clients_wait_while_processes_are_restarted(tmp_path: Path) -> None:
    """With every process killed at once, new connections are not refused, and are answered by the next ones."""
    with separate_daemons(tmp_path, f"sqlite://{tmp_path}/tawara.db") as store:
        tracker = store.daemons["tracker"]
        tracker.start()
        for child in tracker.children():
            os.kill(child, signal.SIGKILL)
        assert [store.ask(b"noop") for _ in range(20)] == [b"OK \r\n"] * 20
        assert "process_restarted" in tracker.log.read_text()
        assert tracker.stop(signal.SIGINT) < STOP_SECONDS


def test_a_failed_start_ends_all_processes(tmp_path: Path) -> None:
    """An error at the start of the first process is reported once, in one line; nothing keeps running."""
    store = SeparateDaemons(tmp_path, "sqlite:nowhere/tawara.db")
    refused = subprocess.run(
        [*TAWARA, "tracker", "--processes=3"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert refused.returncode not in (0, 1)
    assert refused.stderr.count("tawara: ") == 1
    assert "Traceback" not in refused.stderr
    with socket.create_server(("127.0.0.1", int(store.tracker.rpartition(":")[2]))):
        refused = subprocess.run(
            [*TAWARA, "tracker", "--processes=3"], cwd=tmp_path, capture_output=True, text=True, timeout=30
        )
    assert store.tracker in refused.stderr


def test_the_service_manager_is_notified(tmp_path: Path) -> None:
    """With NOTIFY_SOCKET in the environment, the sockets are stored, and READY=1 is sent when the daemon is ready."""
    with (
        separate_daemons(tmp_path, f"sqlite://{tmp_path}/tawara.db") as store,
        socket.socket(type=socket.SOCK_DGRAM, family=socket.AF_UNIX) as manager,
    ):
        manager.bind(str(tmp_path / "manager"))
        manager.settimeout(10)
        store.daemons["tracker"].start({"NOTIFY_SOCKET": str(tmp_path / "manager")})
        assert [manager.recv(100) for _ in range(3)] == [
            b"FDSTORE=1\nFDNAME=tracker.0",
            b"FDSTORE=1\nFDNAME=tracker.1",
            b"READY=1",
        ]


@pytest.mark.parametrize("database", ["postgresql", "mysql"], indirect=True)
@pytest.mark.parametrize("component", ["tracker", "workers", "gateway"])
def test_a_wrong_clock_is_refused(tmp_path: Path, database: str, component: str) -> None:
    """A daemon with shared leases does not start with a clock an hour ahead of the database's, and says why."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    store = SeparateDaemons(tmp_path, database)
    ahead = {"LD_PRELOAD": str(library), "FAKETIME": "+1h", "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DISABLE_SHM": "1"}
    refused = subprocess.run(
        [*TAWARA, *store.daemons[component].arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, **ahead},
    )  # fmt: skip
    assert refused.returncode == 2, refused.stderr
    assert "ahead of the database's" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("component", ["tracker", "workers", "gateway"])
@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_daemons_wait_for_their_database(
    tmp_path: Path, database_servers: Servers, engine: str, component: str
) -> None:
    """A daemon that is started while its database is down says so, waits, and is ready once it is back."""
    with empty_database(engine, tmp_path, database_servers, "waiting") as url, separate_daemons(tmp_path, url) as store:
        daemon, server = store.daemons[component], database_servers(engine)
        server.kill()
        try:
            threads = ThreadPoolExecutor(1)
            starting = threads.submit(daemon.start)
            until(lambda: daemon.log.exists() and "database_unavailable" in daemon.log.read_text())
            assert not starting.done()
        finally:
            server.start()
        assert starting.result(60)["event"] == "ready"
        threads.shutdown()
        assert "database_available" in daemon.log.read_text()


def test_a_daemon_that_waits_for_its_database_can_be_stopped(tmp_path: Path) -> None:
    """SIGTERM ends a waiting daemon soon and successfully."""
    with separate_daemons(tmp_path, f"mysql://tawara@/none?unix_socket={tmp_path}/none") as store:
        daemon = store.daemons["workers"]
        process = subprocess.Popen(
            [*TAWARA, *daemon.arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        try:
            assert process.stderr is not None
            assert "database_unavailable" in process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(STOP_SECONDS + 5) == 0
        finally:
            process.kill()
            process.communicate()
