"""The gateway and clients that send garbage, too much, too slowly, or nothing: it continues, and others are served."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tawara.metadata import queues
from tawara.model.limits import Limits
from tests.acceptance.gateway_fixture import SECRET, StoreFixture, store_fixture

BOTH = pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])


@pytest.fixture(params=[True, False], ids=["nginx", "python"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A gateway on one of the two paths with short time limits."""
    async with store_fixture(tmp_path, nginx=request.param, limits=Limits(header_time=1.0, stalled_body=1.0)) as one:
        yield one


def check(answer: bytes) -> None:
    """Check that a response shows no internals: no traceback, no HTML page, no address of a storage node, no 500."""
    if not answer:
        return
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):  # to a request of HTTP/0.9, a line without version or fields
        head, body = b"HTTP/0.9 505", answer
    status = int(head.split()[1])
    assert status != 500, answer
    if status >= 400:
        for word in (b"Traceback", b"<html", b"127.0.0", b".fid", b"/dev", b"python", b"Error"):
            assert word not in body, answer


NAMES = [
    *(
        "Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
        "If-Range",
        "Expect",
        "Upgrade",
    ),
    *("Content-Length", "Transfer-Encoding", "Content-MD5", "Content-Range", "Content-Type", "Content-Encoding", "TE"),
    *("Connection", "X-Tawara-Step", "X-Tawara-Body", "X-Accel-Redirect", "X-Proxy-Capabilities", "Authorization"),
]
VALUES = [
    *(
        "bytes=0-",
        "bytes=-",
        "bytes=0-0,1-1",
        '"',
        "W/",
        "*",
        '"1-5"',
        "chunked",
        "gzip",
        "5",
        "0",
        "-1",
        "9" * 30,
        "store",
    ),
    *(
        "admit",
        "./bodies/1",
        "@put",
        "upgrade",
        "close",
        "AAAA",
        "bytes 0-1/2",
        "text/html",
        f"Bearer {SECRET}",
        "Bearer",
    ),
    *("Sun, 06 Nov 1994 08:49:37 GMT", "websocket", "100-continue", "reproxy-file"),
]
PIECES = [
    *("d", "/", "k", "..", ".", "%2F", "%2e", "%00", "%ff", "%", "%4", "?", "#", "&", "=", "+", "limit=", "class="),
    "ä",
]

visible = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")
fields = st.tuples(
    st.one_of(st.sampled_from(NAMES), st.from_regex(r"[A-Za-z-]{1,12}", fullmatch=True)),
    st.one_of(st.sampled_from(VALUES), st.text(visible, max_size=40)),
)
paths = st.one_of(
    st.sampled_from(["/", "/d/k", "/d/k", "/d/", "*", "//", "http://x/d/k", "/.tawara/health", "/.tawara/nginx/admit"]),
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "/d/" + "".join(pieces)),
    st.binary(max_size=30).map(lambda raw: "/d/" + quote_from_bytes(raw)),
    st.text(visible, max_size=40).map(lambda text: "/" + text),
)
bodies = st.one_of(st.sampled_from(["", "hello", "5\r\nhello\r\n0\r\n\r\n", "zz\r\n"]), st.text(max_size=30))
methods = st.sampled_from(["GET", "GET", "HEAD", "PUT", "PUT", "DELETE", "OPTIONS", "POST", "BREW", "get", ""])
versions = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/9.9", "HTTP/2.0", ""])


def _request(method: str, path: str, version: str, lines: list[tuple[str, str]], mine: bool, body: str) -> bytes:
    own = [("Host", "x"), ("Connection", "close")] + ([("Authorization", f"Bearer {SECRET}")] if mine else [])
    head = f"{method} {path} {version}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in own + lines)
    return f"{head}\r\n{body}".encode()


requests = st.one_of(
    st.binary(max_size=400),
    *[st.builds(_request, methods, paths, versions, st.lists(fields, max_size=4), st.booleans(), bodies)] * 4,
)


@BOTH
def test_garbage(tmp_path_factory: pytest.TempPathFactory, nginx: bool) -> None:
    """For any bytes, the response is a plain one or none, and afterwards the gateway serves as before."""
    with asyncio.Runner() as runner:
        context = store_fixture(
            tmp_path_factory.mktemp("garbage"), nginx=nginx, limits=Limits(header_time=0.2, stalled_body=0.2)
        )
        one = runner.run(context.__aenter__())

        found_is_enough = (Phase.explicit, Phase.generate)  # to shrink an example takes too many connections

        @settings(
            max_examples=400,
            deadline=None,
            phases=found_is_enough,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(requests)
        def send(data: bytes) -> None:
            check(runner.run(_send(one, data)))

        try:
            send()
            assert runner.run(one.put("/d/after", b"well")).status in (201, 204)
            assert runner.run(one.ask("GET", "/d/after")).body == b"well"
            assert runner.run(one.metadata.read(queues.backlog))["uploads"] == 0
        finally:
            runner.run(context.__aexit__(None, None, None))


async def _send(one: StoreFixture, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*one.gateway.address)
    try:
        writer.write(data)
        return await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /d/" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /d/k HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /d/k HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 1000) for i in range(500))
        + b"\r\n",
    ],
    ids=["line", "field", "fields"],
)
async def test_headers_beyond_the_limit(gateway: StoreFixture, head: bytes) -> None:
    """A header beyond the limits is refused or disconnected, and no other client is affected."""
    try:
        answer = await gateway.raw(head)
    except ConnectionError:
        answer = b""
    check(answer)
    assert not answer or answer.split()[1][:1] == b"4"
    assert (await gateway.put("/d/k")).status == 201


async def test_slow_clients(gateway: StoreFixture) -> None:
    """A partial header, a partial body or nothing at all is given up in time, while others are served."""
    starts = [
        b"",
        b"GET /d/k HT",
        b"GET /d/k HTTP/1.1\r\nHost: x\r\n",
        f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: 9\r\n\r\nhalf".encode(),
        f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n".encode()
        + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ]
    waiting = [asyncio.create_task(gateway.raw(start, timeout=20)) for start in starts * 10]
    assert (await gateway.put("/d/other")).status == 201
    for answer in await asyncio.gather(*waiting):
        check(answer)
    assert await gateway.find(b"k") is None
    assert (await gateway.metadata.read(queues.backlog))["uploads"] == 0


async def test_a_client_that_does_not_read(gateway: StoreFixture) -> None:
    """A client that requests a large file and reads nothing is disconnected; others are served meanwhile."""
    await gateway.put("/d/big?class=one", b"x" * 40_000_000)
    reader, writer = await asyncio.open_connection(*gateway.gateway.address, limit=1024)
    writer.write(b"GET /d/big HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    assert (await gateway.put("/d/other")).status == 201
    await asyncio.sleep(3)
    received = 0
    try:
        async with asyncio.timeout(10):
            while piece := await reader.read(1 << 20):
                received += len(piece)
    except ConnectionError:
        pass
    writer.close()
    assert received < 40_000_000


async def test_a_flood_of_pipelined_requests(gateway: StoreFixture) -> None:
    """Requests that are sent without waiting are answered in order."""
    for number in range(5):
        await gateway.put(f"/d/{number}", b"%d" % number)
    flood = b"".join(b"GET /d/%d HTTP/1.1\r\nHost: x\r\n\r\n" % (number % 5) for number in range(500))
    answer = await gateway.raw(flood + b"GET /d/0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    bodies = [each[:1] for each in answer.split(b"\r\n\r\n")[1:]]
    assert bodies == [b"%d" % (number % 5) for number in range(500)] + [b"0"]


# --- memory -----------------------------------------------------------------------------------------------------------

LARGE = 500_000_000
SERVE = """
import asyncio, structlog, sys
from pathlib import Path
from tests.acceptance.gateway_fixture import store_fixture
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
async def main():
    async with store_fixture(Path(sys.argv[1]), nginx=sys.argv[2] == "nginx") as one:
        print(*one.gateway.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.mark.slow
@BOTH
async def test_memory(tmp_path: Path, nginx: bool) -> None:
    """A PUT and a GET of 500 MB keep the process, gateway and storage nodes together, below 150 MB."""
    path = "nginx" if nginx else "python"
    pipe = asyncio.subprocess.PIPE
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(tmp_path), path, stdin=pipe, stdout=pipe, cwd=root
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        host, port = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"PUT /d/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\nContent-Length: {LARGE}\r\n\r\n"
        writer.write(head.encode())
        piece = os.urandom(1_000_000)
        for _ in range(LARGE // len(piece)):
            writer.write(piece)
            await writer.drain()
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 100)).startswith(b"HTTP/1.1 201 ")
        writer.write(b"GET /d/k HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(LARGE // len(piece)):
            assert await reader.readexactly(len(piece)) == piece
        writer.close()
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
        assert peak < 150_000, f"{peak} kB"
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 20)
