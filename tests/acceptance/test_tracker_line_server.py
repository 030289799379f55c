"""The line server with clients that are fast, slow, confused or hostile; others are served meanwhile."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tawara.metadata import cluster
from tawara.model.limits import Limits
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.tracker.verbs import QUICK, THOROUGH
from tawara.wire.line import Args, decode_reply, encode_args, encode_request, is_request_line
from tests.acceptance.tracker_fixture import StoreFixture, store_fixture

ALL_BYTES = bytes(range(256))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A store with default limits."""
    async with store_fixture(tmp_path) as built:
        yield built


@asynccontextmanager
async def meanwhile(here: StoreFixture) -> AsyncIterator[None]:
    """While this is open another client sends requests repeatedly, and each is answered in time."""
    done = False

    async def ask() -> None:
        reader, writer = await here.connect()
        try:
            while not done:
                writer.write(b"noop callid=other\n")
                assert await asyncio.wait_for(reader.readline(), 5) == b"OK callid=other\r\n"
                await asyncio.sleep(0.005)
        finally:
            writer.close()

    asking = asyncio.ensure_future(ask())
    try:
        yield
    finally:
        done = True
        await asking


# --- framing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"noop\n", b"OK \r\n"),
        (b"noop\r\n", b"OK \r\n"),
        (b"\n\r\n\nnoop\n\n", b"OK \r\n"),
        (b"  NoOp   \n", b"OK \r\n"),
        (b"noop callid=7\n", b"OK callid=7\r\n"),
        (b"nope callid=a%26b\n", b"ERR unknown_command Unknown+server+command a%26b\r\n"),
        (b"get_paths callid=7\n", b"ERR no_domain No+domain+provided 7\r\n"),
        (b"noop callid=1\n! version\nnoop\n", b"OK callid=1\r\nERR unknown_command Unknown+server+command\r\nOK \r\n"),
        (b"noop", b""),
        (b"noop\n\0\xff\n", b"OK \r\nERR unknown_command Unknown+server+command\r\n"),
        (b"\0\xff\nnoop\n", b""),
    ],
)
async def test_framing(here: StoreFixture, sent: bytes, answered: bytes) -> None:
    """Line ends, blanks, case and callid are handled as by MogileFS; data without a line end is no request."""
    reader, writer = await here.connect()
    writer.write(sent)
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 5) == answered
    writer.close()


async def test_keys_of_all_bytes(here: StoreFixture) -> None:
    """A key of all 256 byte values, NUL among them, is stored, listed, found, renamed and deleted."""
    name = encode_args({"key": ALL_BYTES}).removeprefix(b"key=")
    await here.store(name, fid=1)
    listed = decode_reply((await here.ask(b"list_keys domain=d")).strip())
    assert listed == ({"key_count": b"1", "next_after": ALL_BYTES, "key_1": ALL_BYTES},)
    assert (await here.ask(b"get_paths domain=d&key=" + name)).startswith(b"OK paths=1&")
    assert b"&key=" + name + b"&" in await here.ask(b"file_info domain=d&key=" + name)
    backwards = encode_args({"to_key": ALL_BYTES[::-1]})
    assert await here.ask(b"rename domain=d&from_key=" + name + b"&" + backwards) == b"OK \r\n"
    assert (await here.ask(b"get_paths domain=d&key=" + name)).startswith(b"ERR unknown_key")
    last = backwards.removeprefix(b"to_key=")
    assert await here.ask(b"delete domain=d&key=" + last) == b"OK \r\n"


async def test_keys_that_differ_in_any_byte_are_different(here: StoreFixture) -> None:
    """Keys that differ in case, trailing blanks, NUL or invalid UTF-8 are different, and the list is in the order of
    bytes."""
    keys = [b"%00", b"%00%00", b"A", b"A+", b"a", b"a%00", b"a%00b", b"%C3%28", b"%FF", b"%FF%FE"]
    for fid, key in enumerate(keys, 1):
        await here.store(key, fid=fid)
    listed = await here.ask(b"list_keys domain=d")
    expected = b"&".join(b"key_%d=%s" % (number, key) for number, key in enumerate(keys, 1))
    assert listed == b"OK key_count=%d&next_after=%s&%s\r\n" % (len(keys), keys[-1], expected)
    assert await here.ask(b"list_keys domain=d&prefix=%FF") == (
        b"OK key_count=2&next_after=%FF%FE&key_1=%FF&key_2=%FF%FE\r\n"
    )


# --- management -------------------------------------------------------------------------------------------------------


async def test_management_commands(here: StoreFixture) -> None:
    """The `!` commands reply with lines and a dot, among other requests and in order."""
    answered = await here.ask(b"noop", b"!version", b"!stats", b"!jobs", b"!recent", b"!queue", b"!nonsense", b"noop")
    first, version, stats, jobs, recent, queue, usage, last = _parts(answered)
    assert (first, last) == (b"OK ", b"OK ")
    assert version.startswith(b"Tawara ")
    assert b"pending_queries" in stats
    assert b"bored_queryworkers 1" in stats
    assert b"queryworker count 1" in jobs
    assert recent.startswith(b"127.0.0.1 noop 0.")
    assert queue == b"127.0.0.1 !nonsense\r\n127.0.0.1 noop"
    assert b"!version" in usage


def _parts(answered: bytes) -> list[bytes]:
    first, _, rest = answered.partition(b"\r\n")
    *blocks, last = re.split(rb"^\.\r\n", rest, flags=re.MULTILINE)
    return [each.removesuffix(b"\r\n") for each in (first, *blocks, last)]


@pytest.mark.parametrize("command", [b"!shutdown", b"!want 0 delete", b"!to delete :die"])
async def test_harmful_management_commands_are_refused(here: StoreFixture, command: bytes) -> None:
    """A client that merely reaches the port cannot stop the tracker or its work."""
    answered = await here.ask(command, b"noop")
    assert answered.startswith(b"ERROR: ")
    assert answered.endswith(b"\r\n.\r\nOK \r\n")


async def test_watchers_are_notified_of_failures(here: StoreFixture) -> None:
    """A connection that sent !watch is notified of failures, until it sends it again."""
    reader, writer = await here.connect()
    writer.write(b"!watch\n")
    assert await reader.readuntil(b"\r\n.\r\n") == b"Added you to watcher list.\r\n.\r\n"
    await here.ask(b"create_open domain=d&size=99999999999")
    assert await asyncio.wait_for(reader.readline(), 5) == b":: create_open: No devices found to store file\r\n"
    writer.write(b"!watch\n")
    assert await reader.readuntil(b"\r\n.\r\n") == b"Removed you from watcher list.\r\n.\r\n"
    writer.close()


# --- pipelining and back-pressure -------------------------------------------------------------------------------------


async def test_replies_are_in_the_order_of_the_requests(here: StoreFixture) -> None:
    """A slow request delays the next ones of its connection, and no other connection."""
    reader, writer = await here.connect()
    async with meanwhile(here):
        writer.write(b"sleep duration=1&callid=1\nnoop callid=2\nget_paths domain=d&key=x&callid=3\nnoop callid=4\n")
        assert await reader.readline() == b"OK callid=1\r\n"
        assert await reader.readline() == b"OK callid=2\r\n"
        assert await reader.readline() == b"ERR unknown_key unknown_key 3\r\n"
        assert await reader.readline() == b"OK callid=4\r\n"
    writer.close()


async def test_a_flood_of_requests_is_answered(here: StoreFixture) -> None:
    """A hundred thousand pipelined requests are all answered, in order, while another client is served promptly."""
    reader, writer = await here.connect()
    count = 100_000

    async def send() -> None:
        for start in range(0, count, 1000):
            writer.write(b"".join(b"noop callid=%d\n" % number for number in range(start, start + 1000)))
            await writer.drain()

    async with meanwhile(here):
        sending = asyncio.ensure_future(send())
        for number in range(count):
            assert await reader.readline() == b"OK callid=%d\r\n" % number
        await sending
    writer.close()


async def test_reading_pauses_while_too_much_waits(tmp_path: Path) -> None:
    """A client that keeps sending behind a slow request fills its own socket, not the tracker's memory."""
    async with store_fixture(tmp_path, limits=Limits(pipelined=10_000)) as here:
        _, writer = await here.connect()
        writer.write(b"sleep duration=60\n")
        megabyte = b"noop\n" * 200_000
        with pytest.raises(TimeoutError):
            for _ in range(32):
                writer.write(megabyte)
                await asyncio.wait_for(writer.drain(), 0.5)
        [connection] = here.server._connections
        assert connection._waiting_bytes < 2**20
        writer.transport.abort()


async def test_a_peer_that_does_not_read_is_disconnected(tmp_path: Path) -> None:
    """Unread replies do not accumulate: the tracker stops replying, then closes the connection."""
    async with store_fixture(tmp_path, limits=Limits(unread_answer=0.5)) as here:
        await here.store(b"k" * 1000, fid=1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        peer = socket.create_connection(here.server.address)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        flood = b"file_info domain=d&key=" + b"k" * 1000 + b"\n"
        loop = asyncio.get_running_loop()
        async with meanwhile(here):
            with pytest.raises((ConnectionError, BrokenPipeError)):
                async with asyncio.timeout(20):
                    while True:
                        await loop.sock_sendall(peer, flood * 50)
        peer.close()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 32 * 1024, f"{grown} KiB more"


async def test_a_peer_that_reads_slowly_gets_everything(tmp_path: Path) -> None:
    """A client that reads is not disconnected, however slowly."""
    async with store_fixture(tmp_path, limits=Limits(unread_answer=1.0)) as here:
        await here.store(b"k" * 1000, fid=1)
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        peer.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(peer, here.server.address)
        count = 4000
        sending = asyncio.ensure_future(
            loop.sock_sendall(peer, (b"file_info domain=d&key=" + b"k" * 1000 + b"\n") * count)
        )
        received = 0
        while received < count:
            data = await loop.sock_recv(peer, 65536)
            assert data, f"cut off after {received} answers"
            received += data.count(b"\n")
            await asyncio.sleep(0.005)
        await sending
        peer.close()


# --- long and broken lines --------------------------------------------------------------------------------------------


async def test_lines_of_200_kilobytes_are_read(here: StoreFixture) -> None:
    """A line as long as any client sends is accepted."""
    long = b"noop x=" + b"a" * 200_000 + b"&callid=1"
    assert await here.ask(long, b"noop callid=2") == b"OK callid=1\r\nOK callid=2\r\n"


async def test_an_overlong_line_ends_the_connection_with_an_error(here: StoreFixture) -> None:
    """Earlier requests are answered, then the refusal, then the end; another client is not affected."""
    reader, writer = await here.connect()
    async with meanwhile(here):
        writer.write(b"noop\n" + b"a" * (2**18 + 1))
        assert await asyncio.wait_for(reader.readline(), 5) == b"OK \r\n"
        assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"ERR line_too_long ")
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_an_endless_line_needs_no_memory(here: StoreFixture) -> None:
    """A hundred megabytes without a line end are refused after a quarter of one."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reader, writer = await here.connect()
    async with meanwhile(here):
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                writer.write(b"a" * 100_000)
                await writer.drain()
                await asyncio.sleep(0.004)
    assert (await _what_is_left(reader)) in (
        b"",
        b"ERR line_too_long The+request+line+is+longer+than+this+tracker+accepts\r\n",
    )
    writer.transport.abort()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 32 * 1024, f"{grown} KiB more"


async def _what_is_left(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionError:
        return b""


async def test_half_lines_in_single_bytes(here: StoreFixture) -> None:
    """A request that arrives byte by byte is answered when it is complete, and others meanwhile."""
    reader, writer = await here.connect()
    async with meanwhile(here):
        for byte in b"noop callid=slow\n":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.003)
        assert await reader.readline() == b"OK callid=slow\r\n"
    writer.close()


async def test_peers_that_disconnect(here: StoreFixture) -> None:
    """Resets, with and without a running request, leave nothing behind."""
    async with meanwhile(here):
        for sent in (b"", b"no", b"noop\n", b"sleep duration=1\n", b"create_open domain=d\n" * 20):
            peer = socket.create_connection(here.server.address)
            peer.sendall(sent)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        async with asyncio.timeout(5):
            while len(here.server._connections) > 1 or here.server.journal.running:
                await asyncio.sleep(0.01)


GARBAGE = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"\n", b"\r\n", b"!", b"&", b"=", b"%", b"\0", b"domain=d&", b"key=%00&", b"callid=&"]),
        st.sampled_from([name.encode() + b" " for name in sorted((QUICK.keys() | THOROUGH.keys()) - {"sleep"})]),
    ),
    max_size=30,
).map(b"".join)


async def test_garbage_never_causes_a_crash(here: StoreFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """For any bytes, each line gets one well-formed reply, no exception is logged, and the tracker continues."""
    loop = asyncio.get_running_loop()

    async def try_one(data: bytes) -> None:
        data = data.replace(b"!", b"?")  # `!` commands answer several lines; they have tests of their own
        answered = await here.ask(b"noop", data)
        lines = [line.removesuffix(b"\r") for line in (data + b"\n").split(b"\n")]
        assert answered.count(b"\r\n") == 1 + sum(1 for line in lines if line)
        for line in answered.splitlines():
            decode_reply(line)
        assert b"Traceback" not in answered

    @given(GARBAGE)
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def explore(data: bytes) -> None:
        assume(not any(map(is_request_line, data.split(b"\n"))))  # which closes the connection
        asyncio.run_coroutine_threadsafe(try_one(data), loop).result(20)

    async with meanwhile(here):
        await asyncio.to_thread(explore)
    assert "request_failed" not in capfd.readouterr().err


@pytest.mark.parametrize("suspended", [False, True])
async def test_a_defect_in_a_verb_is_logged_without_details_to_the_client(
    here: StoreFixture, suspended: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An exception becomes `failure`; the client gets no details, the log has them all, the connection continues."""

    async def crash(tracker: TrackerContext, call: TrackerRequest) -> Args:
        if suspended:
            await asyncio.sleep(0.01)
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr("tawara.tracker.connection.QUICK", {"noop": crash, "test": QUICK["test"]})
    monkeypatch.setattr("tawara.tracker.connection.THOROUGH", {"sleep": crash})
    answered = await here.ask(b"noop callid=1", b"sleep callid=2", b"test callid=3")
    failure = b"ERR failure Operation+failed"
    assert answered == failure + b" 1\r\n" + failure + b" 2\r\nOK callid=3\r\n"
    assert "a secret" in capfd.readouterr().err


# --- many -------------------------------------------------------------------------------------------------------------


async def test_connections_beyond_the_limit_wait(tmp_path: Path) -> None:
    """With the limit reached by connections that are not idle a new client waits; it is served when another
    disconnects."""
    async with store_fixture(tmp_path, limits=Limits(connections=3)) as here:
        taken = [await here.connect() for _ in range(3)]
        for reader, writer in taken:
            writer.write(b"!watch\nnoop\n")
            while await reader.readline() != b"OK \r\n":
                pass
        reader, writer = await here.connect()
        writer.write(b"noop\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.3)
        taken[0][1].close()
        assert await asyncio.wait_for(reader.readline(), 5) == b"OK \r\n"
        for _, each in [*taken, (reader, writer)]:
            each.close()


async def test_idle_connections_are_replaced(tmp_path: Path) -> None:
    """With the limit reached by idle connections new ones are served, and the longest idle ones are closed."""
    async with store_fixture(tmp_path, limits=Limits(connections=10)) as here:
        idle = [await here.connect() for _ in range(60)]
        reader, writer = await here.connect()
        writer.write(b"noop\n")
        assert await asyncio.wait_for(reader.readline(), 120) == b"OK \r\n"
        assert await idle[0][0].read() == b""
        for _, each in [*idle, (reader, writer)]:
            each.close()


async def test_an_idle_connection_is_closed(tmp_path: Path) -> None:
    """After the time limit an idle connection is closed; one with requests, or that watches, is not."""
    async with store_fixture(tmp_path, limits=Limits(tracker_idle=0.2)) as here:
        watching, watching_writer = await here.connect()
        watching_writer.write(b"!watch\n")
        busy, busy_writer = await here.connect()
        busy_writer.write(b"sleep duration=1\n")
        idle, idle_writer = await here.connect()
        assert await idle.read() == b""
        assert await busy.readline() == b"OK \r\n"
        assert await busy.read() == b""
        assert not watching.at_eof()
        for each in (watching_writer, busy_writer, idle_writer):
            each.close()


async def test_connections_have_keepalive(here: StoreFixture) -> None:
    """Accepted connections have TCP keepalive, so that a peer that was switched off does not stay for ever."""
    _, writer = await here.connect()
    writer.write(b"noop\n")
    while not here.server._connections:
        await asyncio.sleep(0)
    (connection,) = here.server._connections
    assert connection._transport is not None
    accepted = connection._transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    writer.close()


# --- other protocols --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
async def test_nothing_in_a_body_of_http_is_executed(here: StoreFixture, pieces: str) -> None:
    """A connection that begins with HTTP is closed without a reply, and no line of the body is executed."""
    await here.store(b"x", fid=1)
    body = b"delete domain=d&key=x\r\n"
    sent = b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    reader, writer = await here.connect()
    for piece in [sent] if pieces == "whole" else [sent[i : i + 1] for i in range(len(sent))]:
        if writer.transport.is_closing():
            break
        writer.write(piece)
        await asyncio.sleep(0)
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()
    assert (await here.ask(b"get_paths domain=d&key=x")).startswith(b"OK")


async def test_http_after_other_lines_ends_the_connection(here: StoreFixture) -> None:
    """An HTTP request anywhere ends the connection, and nothing after it is executed."""
    await here.store(b"x", fid=1)
    reader, writer = await here.connect()
    writer.write(b"sleep duration=1\nDELETE /x HTTP/1.1\ndelete domain=d&key=x\n")
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b"OK \r\n"
    writer.close()
    assert (await here.ask(b"get_paths domain=d&key=x")).startswith(b"OK")


async def test_tls_is_closed_at_once(here: StoreFixture) -> None:
    """A client that begins with TLS is disconnected without waiting for a line end."""
    reader, writer = await here.connect()
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""
    writer.close()


async def test_stopping_finishes_running_requests(tmp_path: Path) -> None:
    """A running request is answered while the server stops; idle connections are closed."""
    async with store_fixture(tmp_path) as here:
        idle, idle_writer = await here.connect()
        busy, busy_writer = await here.connect()
        busy_writer.write(b"sleep duration=1\n")
        while not here.server.journal.running:
            await asyncio.sleep(0.01)
        await here.server.stop()
        assert await busy.read() == b"OK \r\n"
        assert await idle.read() == b""
        idle_writer.close()
        busy_writer.close()


async def test_concurrent_uploads_get_different_fids(here: StoreFixture) -> None:
    """Fids are unique for any number of concurrent requests, and every connection gets its own replies."""

    async def upload(number: int) -> bytes:
        return await here.ask(*[encode_request("create_open", {"domain": "d", "key": f"{number}"}).strip()] * 5)

    answered = await asyncio.gather(*(upload(number) for number in range(40)))
    fids = [decode_reply(line).args["fid"] for each in answered for line in each.splitlines()]  # type: ignore[union-attr] # all are OK
    assert len(set(fids)) == len(fids) == 200


async def test_a_domain_that_another_tracker_has_just_created(here: StoreFixture) -> None:
    """A domain and a class are known to every tracker as soon as the one that created them has answered."""
    await here.metadata.write(cluster.create_domain, "new")
    assert (await here.ask(b"create_open domain=new&key=k")).startswith(b"OK ")
    await here.metadata.write(cluster.create_class, "new", "c", mindevcount=1)
    assert (await here.ask(b"create_open domain=new&class=c&key=k")).startswith(b"OK ")
    await here.metadata.write(cluster.create_domain, "newer")
    assert b"=newer&" in await here.ask(b"get_domains")
