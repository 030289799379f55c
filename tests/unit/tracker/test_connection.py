"""One connection of the line protocol, on an in-memory transport."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from tawara.model import errors
from tawara.model.limits import Limits
from tawara.tracker import connection as module
from tawara.tracker.connection import Connection
from tawara.tracker.server import TrackerServer

IDLE = 1000.0


class _Peer:
    """A peer of a tracker whose verb `now` answers at once, `later` when `go_on` is set; others fail."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, at_once: bool = True, stale: str = "", **limits: Any
    ) -> None:
        self.go_on = asyncio.Event()
        monkeypatch.setattr(module, "QUICK", {"now": self._now, "later": self._later, "defect": self._defect})
        monkeypatch.setattr(module, "THOROUGH", {"thorough": self._now, "busy": self._busy})
        monkeypatch.setattr(module, "WRITING", {"thorough"})
        nothing = cast("Any", SimpleNamespace(reads_at_once=at_once))
        view = cast("Any", SimpleNamespace(current=SimpleNamespace(stale=stale)))
        self.server = TrackerServer(nothing, view, nothing, nothing, address=("", 0), limits=Limits(**limits))
        self.closed = 0
        self.connection = Connection(self.server, self._on_closed)
        self.sent = b""
        self.unsent = 0
        self.transport = Mock(spec=asyncio.Transport)
        self.transport.get_extra_info.return_value = ("::ffff:192.0.2.7", 4711, 0, 0)
        self.transport.is_closing.return_value = False
        self.transport.write.side_effect = self._write
        self.transport.get_write_buffer_size.side_effect = lambda: self.unsent
        self.connection.connection_made(self.transport)

    def _on_closed(self) -> None:
        self.closed += 1

    def _write(self, data: bytes) -> None:
        self.sent += data

    async def _now(self, *_: object) -> dict[str, Any]:
        return {"n": 1}

    async def _later(self, *_: object) -> dict[str, Any]:
        await self.go_on.wait()
        return {"n": 2}

    async def _defect(self, *_: object) -> dict[str, Any]:
        raise ValueError("secret")

    async def _busy(self, *_: object) -> dict[str, Any]:
        raise errors.Busy

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)

    def busy(self) -> bool:
        return self.connection.busy

    def took(self) -> list[bytes]:
        lines, self.sent = self.sent.splitlines(), b""
        return lines


@pytest.fixture
async def peer(monkeypatch: pytest.MonkeyPatch) -> _Peer:
    return _Peer(monkeypatch)


@pytest.fixture(autouse=True)
async def quick_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LINGER_SECONDS", 0)


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("pieces", [1, 7, 1000])
async def test_requests_are_answered_in_order(peer: _Peer, pieces: int) -> None:
    """Requests in any pieces are answered in order, one at a time, and the idle time begins after the last."""
    data = b"now\r\nlater\nnow\n\nnothing\n"
    for at in range(0, len(data), pieces):
        peer.receive(data[at : at + pieces])
    await _settle()
    assert peer.took() == [b"OK n=1"]
    assert peer.busy()
    assert peer.connection.waiting() == [b"now", b"nothing"]
    assert peer.connection.idle_since() is None
    peer.go_on.set()
    await _settle()
    assert peer.took() == [b"OK n=2", b"OK n=1", b"ERR unknown_command Unknown+server+command"]
    assert not peer.busy()
    assert peer.connection.idle_since() is not None
    assert peer.connection.client_ip == "192.0.2.7"


@pytest.mark.parametrize("at_once", [True, False])
async def test_requests_that_do_not_suspend_need_no_task(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """Only quick verbs of a database that reads at once are answered without a task."""
    peer = _Peer(monkeypatch, at_once=at_once)
    peer.receive(b"now\n")
    assert peer.busy() is not at_once
    await _settle()
    peer.receive(b"thorough\n")
    assert peer.busy()
    await _settle()
    assert peer.took() == [b"OK n=1"] * 2


async def test_other_connections_are_served_between_bursts(peer: _Peer) -> None:
    """Of many requests only some are answered before the event loop runs other callbacks; all are in the end."""
    peer.receive(b"now\n" * 40)
    assert len(peer.sent.splitlines()) == 16
    assert peer.connection.idle_since() is None
    await _settle()
    assert peer.took() == [b"OK n=1"] * 40


async def test_errors_are_replies(peer: _Peer) -> None:
    """A refused request is answered with its error, a defect without its text; both are shown to `!watch`."""
    announced: list[bytes] = []
    peer.server.management.watchers.add(Mock(push=announced.append))
    peer.receive(b"defect\nbusy\nnothing\n")
    await _settle()
    answers = peer.took()
    assert [answer.split()[:2] for answer in answers] == [
        [b"ERR", b"failure"], [b"ERR", errors.Busy.code.encode()], [b"ERR", b"unknown_command"],
    ]  # fmt: skip
    assert b"secret" not in b"".join(answers)
    assert [b"defect crashed: ValueError" in announced[0], b"busy: " in announced[1], len(announced)] == [True, True, 2]


async def test_a_stale_database_is_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is older than the devices, verbs that write are refused, and others are answered."""
    peer = _Peer(monkeypatch, stale="Restore it.")
    peer.receive(b"thorough\nnow\n")
    await _settle()
    refused, answered = peer.took()
    assert refused.startswith(b"ERR stale_database")
    assert answered == b"OK n=1"


@pytest.mark.parametrize("began", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", b"now\nGET /x HTTP/1.0\n"])
async def test_a_peer_of_another_protocol_is_disconnected(peer: _Peer, began: bytes) -> None:
    """HTTP and TLS, also after a request, are disconnected, and nothing that follows is answered."""
    peer.receive(began)
    peer.receive(b"\nnow\n")
    await _settle()
    assert peer.transport.abort.called
    assert b"ERR" not in peer.sent
    assert peer.sent.count(b"OK") == began.count(b"now")


@pytest.mark.parametrize("busy", [True, False])
async def test_a_peer_that_has_sent_all_gets_its_answers(peer: _Peer, busy: bool) -> None:
    """After the end of the peer's data all requests are answered, then the connection is closed."""
    peer.receive(b"later\nnow\n" if busy else b"now\n")
    await _settle()
    assert peer.connection.eof_received() is busy
    peer.go_on.set()
    await _settle()
    assert peer.took() == ([b"OK n=2", b"OK n=1"] if busy else [b"OK n=1"])
    assert peer.transport.close.called is busy  # an idle connection is closed by asyncio


async def test_the_end_within_a_burst(peer: _Peer) -> None:
    """A connection whose answers are only scheduled stays open after the end of the peer's data."""
    peer.receive(b"now\n" * 20)
    assert peer.connection.eof_received() is True
    await _settle()
    assert len(peer.took()) == 20
    assert peer.transport.close.called


async def test_input_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit of pending input the connection stops reading, and reads again once it is answered."""
    peer = _Peer(monkeypatch, pipelined=20)
    peer.receive(b"later\n" + b"now\n" * 3)
    assert not peer.transport.pause_reading.called
    peer.receive(b"now\n")
    assert peer.transport.pause_reading.call_count == 1
    peer.go_on.set()
    await _settle()
    assert peer.transport.resume_reading.call_count == 1
    assert len(peer.took()) == 5


async def test_an_overlong_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests before an overlong line are answered, the line is refused, and what follows it is discarded."""
    peer = _Peer(monkeypatch, line=100)
    peer.receive(b"later\n" + b"now x=" + b"y" * 100)
    assert peer.transport.pause_reading.called
    peer.go_on.set()
    await _settle()
    peer.receive(b"\nnow\n")
    await _settle()
    answers = peer.took()
    assert (answers[0], len(answers)) == (b"OK n=2", 2)
    assert answers[1].startswith(f"ERR {errors.LineTooLong.code}".encode())
    assert peer.transport.write_eof.called
    assert peer.transport.resume_reading.called
    assert peer.transport.abort.called


async def test_no_request_begins_while_answers_are_not_read(peer: _Peer) -> None:
    """A peer that does not read its answers has no further request begun until it does; it is not idle."""
    peer.connection.pause_writing()
    peer.receive(b"now\n")
    await _settle()
    assert peer.sent == b""
    assert peer.connection.idle_since() is None
    peer.connection.push(b"news\n")
    assert peer.sent == b""
    peer.connection.resume_writing()
    await _settle()
    assert peer.took() == [b"OK n=1"]
    peer.connection.push(b"news\n")
    assert peer.took() == [b"news"]


@pytest.mark.parametrize("later", [1, 5])
async def test_a_peer_that_reads_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch, later: int) -> None:
    """A peer that has read nothing within the limit is disconnected; one that reads slowly is not."""
    peer = _Peer(monkeypatch, unread_answer=IDLE)
    timers: list[tuple[Any, ...]] = []
    loop = asyncio.get_running_loop()

    def call_later(*call: Any) -> Mock:
        timers.append(call)
        return Mock()

    monkeypatch.setattr(loop, "call_later", call_later)
    peer.unsent = 5
    peer.connection.pause_writing()
    peer.unsent = later
    delay, callback, unread = timers.pop()
    assert (delay, unread) == (IDLE, 5)
    callback(unread)
    assert peer.transport.abort.called is (later == 5)
    assert len(timers) == (later < 5)


@pytest.mark.parametrize(("before", "closes"), [(0.0, False), (1e99, True)])
async def test_an_idle_connection_is_closed(peer: _Peer, before: float, closes: bool) -> None:
    """A connection is closed if it is idle for longer than the limit, and never while a request runs or it watches."""
    peer.connection.close_if_idle(before)
    assert peer.transport.close.called is closes
    watching = peer.connection
    peer.server.management.watchers.add(watching)
    assert watching.idle_since() is None


async def test_a_busy_connection_is_not_idle(peer: _Peer) -> None:
    """While a request runs a connection is not closed as idle."""
    peer.receive(b"later\n")
    peer.connection.close_if_idle(1e99)
    assert not peer.transport.close.called
    peer.go_on.set()
    await _settle()
    peer.connection.close_if_idle(1e99)
    assert peer.transport.close.called


async def test_a_lost_connection_finishes_its_request(peer: _Peer) -> None:
    """The request of a disconnected peer is finished without an answer; waiting ones are dropped."""
    peer.receive(b"later\nnow\n")
    peer.connection.connection_lost(None)
    assert peer.connection.waiting() == []
    peer.go_on.set()
    await _settle()
    peer.receive(b"now\n")
    assert (peer.sent, peer.closed, peer.server.journal.running) == (b"", 1, 0)
