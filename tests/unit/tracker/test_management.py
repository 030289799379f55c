"""What a tracker tells about itself."""

from __future__ import annotations

from tawara.tracker.management import Management
from tawara.tracker.request_log import RequestLog
from tawara.wire.line import parse_request


class Peer:
    """A connection that remembers what was pushed to it."""

    def __init__(self) -> None:
        self.pushed: list[bytes] = []

    def push(self, data: bytes) -> None:
        self.pushed.append(data)


def answer(management: Management, line: bytes) -> bytes:
    """The answer to one `!` line."""
    return management.answer(parse_request(line), Peer())


def test_shutdown_only_where_it_is_allowed() -> None:
    """Without leave it is refused with a sentence, with leave it is done."""
    stopped: list[bool] = []
    refusing = Management(RequestLog(), list, ("queryworker",))
    assert answer(refusing, b"!shutdown").startswith(b"ERROR: ")
    allowing = Management(RequestLog(), list, ("queryworker",), lambda: stopped.append(True))
    assert answer(allowing, b"!shutdown") == b".\r\n"
    assert stopped == [True]


def test_names_are_matched_by_their_beginning() -> None:
    """As in the original, what follows a known name does not matter."""
    management = Management(RequestLog(), lambda: [b"10.0.0.1 noop"], ("queryworker",))
    assert answer(management, b"!queue_x") == answer(management, b"!pend") == b"10.0.0.1 noop\r\n.\r\n"
    assert answer(management, b"!help").endswith(b".\n.\r\n")


def test_the_last_fifty_requests_are_kept_and_no_more_of_each_than_fits() -> None:
    """A journal is bounded, whatever is asked."""
    journal = RequestLog()
    for number in range(60):
        journal.finished("10.0.0.1", b"noop %d" % number, 0.0, 0.25, 1.0)
    journal.finished(None, b"x" * 5000, 0.0, 0.0, 0.0)
    lines = journal.recent()
    assert len(lines) == 50
    assert lines[0] == b"10.0.0.1 noop 11 1.0000 0.7500"
    assert lines[-1] == b"- " + b"x" * 1000 + b" 0.0000 0.0000"
    assert journal.queries == 61


def test_what_is_announced_is_one_line() -> None:
    """Nothing in a message can look like another line of the protocol."""
    management, peer = Management(RequestLog(), list, ()), Peer()
    management.announce("nobody listens")
    management.answer(parse_request(b"!watch"), peer)
    management.announce("a\r\nOK b")
    assert peer.pushed == [b":: a  OK b\r\n"]
