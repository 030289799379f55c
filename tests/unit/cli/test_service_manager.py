"""Listening sockets that a service manager keeps during a restart."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tawara.cli import service_manager
from tawara.cli.processes import share
from tawara.cli.service_manager import SocketKeeper, take_stored, watchdog_period
from tawara.listening import take

HERE = ("127.0.0.1", 0)


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield told


def received(manager: socket.socket) -> list[tuple[str, int]]:
    """Each message, with the number of descriptors in it, which are closed."""
    found: list[tuple[str, int]] = []
    while True:
        try:
            text, rights, _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(16))
        except BlockingIOError:
            return found
        descriptors = array.array("i")
        for _, _, data in rights:
            descriptors.frombytes(data)
        for each in descriptors:
            os.close(each)
        found.append((text.decode(), len(descriptors)))


def test_a_new_socket_is_stored_and_a_stored_one_used(manager: socket.socket) -> None:
    """A daemon stores each socket that it opens; the next one gets it, if it listens on the same address."""
    first = SocketKeeper({}).take("side channel", 0, HERE)
    assert received(manager) == [("FDSTORE=1\nFDNAME=side-channel.0", 1)]
    place = first.getsockname()
    keeper = SocketKeeper({"side-channel.0": first})
    assert keeper.has("side channel", place)
    assert not keeper.has("tracker", place)
    assert keeper.take("side channel", 0, place) is first
    assert received(manager) == []
    other = SocketKeeper({"side-channel.0": first}).take("side channel", 0, ("127.0.0.2", 0))
    assert other is not first
    assert first.fileno() == -1
    assert [text.partition("\n")[0] for text, _ in received(manager)] == ["FDSTOREREMOVE=1", "FDSTORE=1"]
    other.close()


def test_a_socket_without_a_process_is_dropped(manager: socket.socket) -> None:
    """With fewer processes than before, the sockets of the others are closed: clients would wait for them for ever."""
    shares = share({"tracker": HERE}, 2, SocketKeeper({}))
    place = shares[0]["tracker"].getsockname()
    received(manager)
    keeper = SocketKeeper({f"tracker.{number}": each["tracker"] for number, each in enumerate(shares)})
    (kept,) = share({"tracker": place}, 1, keeper)
    keeper.drop_unused()
    assert kept["tracker"] is shares[0]["tracker"]
    assert shares[1]["tracker"].fileno() == -1
    assert received(manager) == [("FDSTOREREMOVE=1\nFDNAME=tracker.1", 0)]
    more = share({"tracker": place}, 2, SocketKeeper({"tracker.0": kept["tracker"]}))
    assert more[1]["tracker"].getsockname() == place
    for each in more:
        each["tracker"].close()


def test_sockets_of_the_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listening sockets are taken by name, once, by the process that they are meant for; what is none is ignored."""
    with take(HERE, "a test") as listening, socket.socket() as other, Path(os.devnull).open() as null:
        monkeypatch.setattr(service_manager, "_FIRST", 900)
        for number, descriptor in enumerate((listening.fileno(), other.fileno(), null.fileno())):
            os.dup2(descriptor, 900 + number)
        monkeypatch.setenv("LISTEN_FDS", "3")
        monkeypatch.setenv("LISTEN_FDNAMES", "tracker.0:b:c")
        monkeypatch.setenv("LISTEN_PID", "1")
        assert take_stored() == {}, "they are another process's"
        monkeypatch.setenv("LISTEN_FDS", "3")
        monkeypatch.setenv("LISTEN_FDNAMES", "tracker.0:b:c")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        found = take_stored()
        assert list(found) == ["tracker.0"]
        assert not found["tracker.0"].get_inheritable()
        found["tracker.0"].close()
        assert take_stored() == {}
        os.close(902)


@pytest.mark.parametrize(("wanted", "pid", "period"), [("", "", None), ("x", "", None), ("4000000", "1", None)])
def test_no_watchdog(monkeypatch: pytest.MonkeyPatch, wanted: str, pid: str, period: float | None) -> None:
    """Without a watchdog for this process there are no signs of life."""
    monkeypatch.setenv("WATCHDOG_USEC", wanted)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert watchdog_period() == period


def test_a_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life is given twice within the time."""
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_period() == 2.0
