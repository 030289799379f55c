"""Requests to several trackers: order, retries, and lost replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tawara.client.trackers import OutcomeUnknown, Trackers, parse_addresses
from tawara.model import errors


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("a", [("a", 7001)]),
        ("a:1, b:2", [("a", 1), ("b", 2)]),
        ("::1", [("::1", 7001)]),
        ("[::1]:5", [("::1", 5)]),
        ("[::1]", [("::1", 7001)]),
        (["a:1", "a:1"], [("a", 1)]),
    ],
)
def test_addresses(text: str, addresses: list[tuple[str, int]]) -> None:
    """Hosts with and without ports, also IPv6, are parsed, each once."""
    assert parse_addresses(text) == addresses


@pytest.mark.parametrize("text", ["", ",", "a:b", "a:0", "a:65536", ":1", "a:1,b:-1"])
def test_invalid_addresses(text: str) -> None:
    """An invalid address is refused before any connection."""
    with pytest.raises(errors.UsageError):
        parse_addresses(text)


class _Fake:
    """A tracker that gives prepared replies (bytes, or None to disconnect) and counts the requests."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.asked: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while line := await reader.readline():
                self.asked.append(line.strip())
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def _trackers(*fakes: _Fake) -> AsyncIterator[Trackers]:
    """Trackers in this order of preference."""
    async with AsyncExitStack() as stack:
        addresses = []
        for fake in fakes:
            server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
            await stack.enter_async_context(server)
            addresses.append(server.sockets[0].getsockname()[:2])
        trackers = Trackers(addresses, connect_timeout=1, reply_timeout=0.5)
        trackers._trackers.sort(key=lambda each: addresses.index((each.host, each.port)))
        stack.push_async_callback(trackers.close)
        yield trackers


OK = b"OK a=1\r\n"


async def test_one_connection_serves_many_requests() -> None:
    """Connections are kept; concurrent requests use a few of them."""
    fake = _Fake(OK)
    async with _trackers(fake) as trackers:
        for _ in range(5):
            assert await trackers.ask("noop") == {"a": b"1"}
        assert fake.connections == 1
        await asyncio.gather(*(trackers.ask("noop") for _ in range(50)))
        assert fake.connections <= 8


@pytest.mark.parametrize(
    "bad", [None, b"nonsense\r\n", b"OK " + b"x" * 9_000_000], ids=["hangs up", "nonsense", "huge"]
)
async def test_the_next_tracker_is_tried(bad: bytes | None) -> None:
    """When a tracker disconnects or sends an invalid reply the next one is tried, and stays preferred for some time."""
    first, second = _Fake(bad), _Fake(OK)
    async with _trackers(first, second) as trackers:
        for _ in range(3):
            assert await trackers.ask("noop") == {"a": b"1"}
        assert (len(first.asked), len(second.asked)) == (1, 3)


async def test_a_tracker_that_times_out() -> None:
    """When a tracker does not reply in time the next one is tried."""
    first, second = _Fake(b""), _Fake(OK)
    async with _trackers(first, second) as trackers:
        assert await trackers.ask("noop") == {"a": b"1"}


async def test_an_error_reply_is_raised() -> None:
    """An ERR reply raises its error, and the next tracker is not tried."""
    first, second = _Fake(b"ERR unknown_key unknown_key\r\n"), _Fake(OK)
    async with _trackers(first, second) as trackers:
        with pytest.raises(errors.UnknownKey):
            await trackers.ask("file_info")
        assert not second.asked


async def test_an_unavailable_database() -> None:
    """After Db or Busy the next tracker is tried."""
    first, second = _Fake(b"ERR db Database+error\r\n"), _Fake(OK)
    async with _trackers(first, second) as trackers:
        assert await trackers.ask("noop") == {"a": b"1"}
    async with _trackers(_Fake(b"ERR db Database+error\r\n")) as trackers:
        with pytest.raises(errors.Db):
            await trackers.ask("noop")


@pytest.mark.parametrize("code", [b"db", b"database_unavailable"])
async def test_a_tracker_without_its_database_is_skipped(code: bytes) -> None:
    """A tracker that reports its database as unavailable is skipped for some time, if there is another."""
    first, second = _Fake(b"ERR %s Away\r\n" % code), _Fake(OK, OK, OK)
    async with _trackers(first, second) as trackers:
        for _ in range(3):
            assert await trackers.ask("noop") == {"a": b"1"}
        assert (len(first.asked), len(second.asked)) == (1, 3)


async def test_a_request_that_was_not_begun_is_sent_to_the_next() -> None:
    """If a tracker never reached its database, a request that must not be repeated is sent to the next one."""
    first, second = _Fake(b"ERR database_unavailable Away\r\n"), _Fake(OK)
    async with _trackers(first, second) as trackers:
        assert await trackers.ask("create_close", once=True) == {"a": b"1"}
    async with _trackers(_Fake(b"ERR database_unavailable Away\r\n")) as trackers:
        with pytest.raises(errors.DatabaseUnavailable):
            await trackers.ask("create_close", once=True)


@pytest.mark.parametrize("answer", [None, b"ERR db Database+error\r\n"], ids=["hangs up", "db"])
async def test_a_request_that_must_not_be_repeated(answer: bytes | None) -> None:
    """A request that must not be repeated is sent once, and the error says that its result is unknown."""
    first, second = _Fake(answer), _Fake(OK)
    async with _trackers(first, second) as trackers:
        with pytest.raises(OutcomeUnknown):
            await trackers.ask("create_close", once=True)
        assert (len(first.asked), len(second.asked)) == (1, 0)


async def test_a_repeated_request_may_report_the_first() -> None:
    """An error that means "done already" counts as success after a lost reply, and only then."""
    exists = b"ERR domain_exists x\r\n"
    async with _trackers(_Fake(None, exists)) as trackers:
        assert await trackers.ask("create_domain", settled_by=(errors.DomainExists,)) == {}
        with pytest.raises(errors.DomainExists):
            await trackers.ask("create_domain", settled_by=(errors.DomainExists,))


async def test_a_reply_without_its_fields() -> None:
    """An OK reply that lacks fields is treated as an invalid reply, and raises no KeyError."""
    async with _trackers(_Fake(OK)) as trackers:
        with pytest.raises(errors.TrackerUnreachable):
            await trackers.ask_for(lambda reply: reply["fid"], "file_info")
        with pytest.raises(errors.TrackerUnreachable):
            await trackers.ask_for(lambda reply: int(b"x" + reply["a"]), "file_info")


async def test_a_late_reply_is_not_taken_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a request timed out its connection is not used again."""
    gate = asyncio.Event()
    answers = iter([b"OK n=1\r\n", b"OK n=2\r\n"])

    class Slow(_Fake):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            answer = next(answers)
            if answer == b"OK n=1\r\n":
                await gate.wait()
            writer.write(answer)
            writer.close()

    async with _trackers(Slow()) as trackers:
        first = asyncio.create_task(trackers.ask("noop"))
        await asyncio.sleep(0.05)
        first.cancel()
        gate.set()
        assert await trackers.ask("noop") == {"n": b"2"}


async def test_management_commands() -> None:
    """The lines of the reply to a `!` command are returned, without the final dot."""
    async with _trackers(_Fake(b"uptime 5\r\nqueries 1\r\n.\r\n")) as trackers:
        assert await trackers.manage(trackers.addresses[0], "stats") == ["uptime 5", "queries 1"]
