"""The tracker's management commands."""

from __future__ import annotations

from tawara.tracker.management import Management
from tawara.tracker.request_log import RequestLog
from tawara.wire.line import parse_request


class Peer:
    """A connection that records what was sent to it."""

    def __init__(self) -> None:
        self.pushed: list[bytes] = []

    def push(self, data: bytes) -> None:
        self.pushed.append(data)


def answer(management: Management, line: bytes) -> bytes:
    """The reply to one `!` line."""
    return management.answer(parse_request(line), Peer())


def test_shutdown_only_if_allowed() -> None:
    """Unless allowed, `!shutdown` is refused with a message."""
    stopped: list[bool] = []
    refusing = Management(RequestLog(), list, ("queryworker",))
    assert answer(refusing, b"!shutdown").startswith(b"ERROR: ")
    allowing = Management(RequestLog(), list, ("queryworker",), lambda: stopped.append(True))
    assert answer(allowing, b"!shutdown") == b".\r\n"
    assert stopped == [True]


def test_commands_are_matched_by_prefix() -> None:
    """As in MogileFS, characters after a known name are ignored."""
    management = Management(RequestLog(), lambda: [b"10.0.0.1 noop"], ("queryworker",))
    assert answer(management, b"!queue_x") == answer(management, b"!pend") == b"10.0.0.1 noop\r\n.\r\n"
    assert answer(management, b"!help").endswith(b".\n.\r\n")


def test_the_last_fifty_requests_are_kept() -> None:
    """The log of requests is bounded in number and size."""
    journal = RequestLog()
    for number in range(60):
        journal.finished("10.0.0.1", b"noop %d" % number, 0.0, 0.25, 1.0)
    journal.finished(None, b"x" * 5000, 0.0, 0.0, 0.0)
    lines = journal.recent()
    assert len(lines) == 50
    assert lines[0] == b"10.0.0.1 noop 11 1.0000 0.7500"
    assert lines[-1] == b"- " + b"x" * 1000 + b" 0.0000 0.0000"
    assert journal.queries == 61


def test_a_message_is_one_line() -> None:
    """No message can contain what looks like another line of the protocol."""
    management, peer = Management(RequestLog(), list, ()), Peer()
    management.announce("without a watcher")
    management.answer(parse_request(b"!watch"), peer)
    management.announce("a\r\nOK b")
    assert peer.pushed == [b":: a  OK b\r\n"]
