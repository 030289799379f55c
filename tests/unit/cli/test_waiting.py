"""Starting without a database, and reports to the service manager."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog.testing

from tawara.cli import readiness, service_manager, waiting
from tawara.cli.waiting import until_available
from tawara.model.errors import DatabaseUnavailable


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


def _told(manager: socket.socket) -> list[str]:
    told = []
    while True:
        try:
            told.append(manager.recv(1000).decode())
        except BlockingIOError:
            return told


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, which take no time."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(waiting, "asyncio", SimpleNamespace(sleep=sleep))
    return found


async def test_a_start_waits_for_the_database(manager: socket.socket, pauses: list[float]) -> None:
    """A step is repeated with growing pauses; each reason is logged once, and the manager waits meanwhile."""
    failures = [DatabaseUnavailable("refused")] * 6 + [DatabaseUnavailable("read-only")]

    async def step() -> int:
        if failures:
            raise failures.pop(0)
        return 7

    with structlog.testing.capture_logs() as logs:
        assert await until_available(step) == 7
    assert pauses == [0.25, 0.5, 1, 2, 4, 5, 5]
    assert [(each["event"], each.get("reason")) for each in logs] == [
        ("database_unavailable", "refused"), ("database_unavailable", "read-only"), ("database_available", None),
    ]  # fmt: skip
    told = _told(manager)
    assert told[0] == "STATUS=Waiting for the database: refused\nEXTEND_TIMEOUT_USEC=60000000"
    assert (len(told), told[-1]) == (8, "STATUS=")


async def test_a_start_with_a_database_says_nothing(manager: socket.socket, pauses: list[float]) -> None:
    """A step that succeeds at once is neither logged nor told; other errors are raised."""

    async def step() -> int:
        return 7

    async def fail() -> int:
        raise KeyError

    assert await until_available(step) == 7
    with pytest.raises(KeyError):
        await until_available(fail)
    assert (_told(manager), pauses) == ([], [])


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
def test_without_a_service_manager_nothing_is_sent(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Only a path or an abstract name is a service manager's socket."""
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setattr(service_manager, "socket", None)
    service_manager.notify("READY=1")


@pytest.mark.parametrize("processes", [1, 3])
def test_readiness(manager: socket.socket, capfd: pytest.CaptureFixture[str], processes: int) -> None:
    """A daemon that is ready prints its addresses as text or JSON, and tells the service manager."""
    store = cast("Any", SimpleNamespace(addresses={"tracker": "127.0.0.1:7001"}, directory=Path("/srv")))
    readiness.say(store, "a tracker", "A note.", as_json=False, processes=processes)
    first, *others = capfd.readouterr().out.splitlines()
    assert first == f"Tawara runs a tracker{', in 3 processes' if processes == 3 else ''}. Ctrl-C stops it."
    assert others == ["  tracker  127.0.0.1:7001", "A note."]
    readiness.say(store, "a tracker", as_json=True, processes=processes)
    assert json.loads(capfd.readouterr().out) == {
        "event": "ready", "directory": "/srv", "addresses": store.addresses, "processes": processes,
    }  # fmt: skip
    assert _told(manager) == ["READY=1", "READY=1"]
