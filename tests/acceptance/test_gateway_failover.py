"""The gateway when storage nodes, devices or nginx fail."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.server import Gateway
from tawara.metadata import queues
from tawara.metadata.contract import Transaction
from tawara.model.errors import ConfigurationError, PortTaken
from tawara.model.limits import Limits
from tests.acceptance.gateway_fixture import AUTHORISED, DIRECTORY, StoreFixture, store_fixture

QUICK = Limits(node_connect=0.3, node_answer=0.5, stalled_body=5.0)
DATA = os.urandom(300_000)


@pytest.fixture(params=[True, False], ids=["nginx", "python"])
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreFixture]:
    """A gateway on one of the two paths with short time limits."""
    async with store_fixture(tmp_path, nginx=request.param, limits=QUICK) as one:
        yield one


async def move(gateway: StoreFixture, devid: int, port: int) -> None:
    """Set the port of a device's host in the cluster."""

    async def change(tx: Transaction) -> None:
        await tx.run("UPDATE host SET http_port = ? WHERE hostid = ?", port, devid)

    await gateway.metadata.write(change)
    await gateway.view.refresh()


@asynccontextmanager
async def strange_node(devid: int, answer: bytes | None) -> AsyncIterator[int]:
    """A server at a host's address that answers every request with `answer` and disconnects; None: never. Its port."""
    held: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            writer.close()

    server = await asyncio.start_server(serve, f"127.0.0.{devid}", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in held:
            writer.close()


@contextmanager
def deaf_port(devid: int) -> Iterator[int]:
    """A port at a host's address to which connecting never ends, because its queue is full."""
    with socket.socket() as listening:
        listening.bind((f"127.0.0.{devid}", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for each in waiting:
            each.close()


async def read_often(gateway: StoreFixture) -> None:
    """In any order of replicas, the whole file and a part of it are right."""
    for _ in range(8):
        got = await gateway.ask("GET", "/d/k.txt")
        assert (got.status, got.body == DATA, got["Content-Type"]) == (200, True, "text/plain")
        part = await gateway.ask("GET", "/d/k.txt", headers={"Range": "bytes=1000-1999"})
        assert (part.status, part.body == DATA[1000:2000]) == (206, True)
        assert (got["ETag"], part["ETag"]) == (got["ETag"], got["ETag"])


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_missing_replicas(gateway: StoreFixture) -> None:
    """Replicas that are missing from their disks, local or remote, are skipped as long as one is left."""
    await gateway.put("/d/k.txt?class=three", DATA)
    fid = (await gateway.stored(b"k.txt")).fid
    for devid in (1, 3):
        gateway.replica(devid, fid).unlink()
        await read_often(gateway)
    gateway.replica(2, fid).unlink()
    for method in ("GET", "GET"):
        answer = await gateway.ask(method, "/d/k.txt")
        assert (answer.status, answer["Content-Type"]) == (503, "text/plain")
        assert b"127.0.0" not in answer.body and b"<" not in answer.body


async def test_a_truncated_replica(gateway: StoreFixture) -> None:
    """A local replica of another size than the file is not sent."""
    await gateway.put("/d/k.txt?class=three", DATA)
    os.truncate(gateway.replica(1, (await gateway.stored(b"k.txt")).fid), 1000)
    await read_often(gateway)


async def test_stopped_nodes(gateway: StoreFixture) -> None:
    """Storage nodes that refuse connections are skipped."""
    await gateway.put("/d/k.txt?class=three", DATA)
    await gateway.stop_node(2)
    await gateway.stop_node(3)
    await read_often(gateway)


ANSWERS = {
    "silent": None,
    "hangs up": b"",
    "500": b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
    "404": b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
    "403": b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_faulty_nodes(gateway: StoreFixture, answer: bytes | None) -> None:
    """A node that is silent, disconnects or refuses is skipped."""
    await gateway.put("/d/k.txt?class=three", DATA)
    gateway.replica(1, (await gateway.stored(b"k.txt")).fid).unlink()
    async with strange_node(2, answer) as port:
        await move(gateway, 2, port)
        for _ in range(3):
            assert (await gateway.ask("GET", "/d/k.txt")).body == DATA


async def test_a_node_that_is_slow_to_connect(gateway: StoreFixture) -> None:
    """A host that does not accept the connection costs its time limit, not the file."""
    await gateway.put("/d/k.txt?class=three", DATA)
    gateway.replica(1, (await gateway.stored(b"k.txt")).fid).unlink()
    with deaf_port(2) as port:
        await move(gateway, 2, port)
        for _ in range(3):
            assert (await gateway.ask("GET", "/d/k.txt")).body == DATA


@pytest.mark.parametrize(
    "half",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + DATA[:150_000], b"220 mail.example.org ESMTP\r\n"],
    ids=["half", "no http"],
)
async def test_a_node_that_breaks_off(tmp_path: Path, half: bytes) -> None:
    """When streaming, the next replica continues where one broke off in the middle of the body, or sent an invalid
    reply."""
    async with store_fixture(tmp_path, nginx=False, limits=QUICK) as gateway:
        await gateway.put("/d/k.txt?class=three", DATA)
        gateway.replica(1, (await gateway.stored(b"k.txt")).fid).unlink()
        async with strange_node(2, half) as port:
            await move(gateway, 2, port)
            for _ in range(6):
                assert (await gateway.ask("GET", "/d/k.txt")).body == DATA


async def test_a_nodes_header_fields_are_not_forwarded(gateway: StoreFixture) -> None:
    """Of a node's header fields only the length reaches the client: not its type, tags, cookies or redirections."""
    await gateway.put("/d/k.txt?class=three", DATA)
    for devid in (1, 3):
        gateway.replica(devid, (await gateway.stored(b"k.txt")).fid).unlink()
    told = b'ETag: "no"\r\nSet-Cookie: a=b\r\nContent-Type: text/html\r\nX-Accel-Redirect: @put\r\nRefresh: 0\r\n'
    async with strange_node(2, b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n" + told + b"\r\n" + DATA) as port:
        await move(gateway, 2, port)
        got = await gateway.ask("GET", "/d/k.txt")
        assert (got.body == DATA, got.headers.get_all("Content-Type")) == (True, ["text/plain"])
        assert got["ETag"] == (await gateway.ask("HEAD", "/d/k.txt"))["ETag"]
        assert got["Set-Cookie"] is None and got["X-Accel-Redirect"] is None


# --- writing ----------------------------------------------------------------------------------------------------------


async def orphans(gateway: StoreFixture) -> list[tuple[int, int]]:
    async def look(tx: Transaction) -> list[tuple[int, int]]:
        return [(row[0], row[1]) for row in await tx.rows("SELECT fid, devid FROM tawara_copy ORDER BY devid")]

    return await gateway.metadata.read(look)


async def test_writing_with_a_node_down(gateway: StoreFixture) -> None:
    """A file that reaches fewer devices than its class requires is stored, queued for replication, and the failed copy
    is cleaned up."""
    await gateway.stop_node(3)
    assert (await gateway.put("/d/k?class=three", DATA)).status == 201
    stored = await gateway.stored(b"k")
    assert set(stored.devids) == {1, 2}
    assert await orphans(gateway) == [(stored.fid, 3)]
    assert (await gateway.metadata.read(queues.backlog))["replicate"] == 1
    assert (await gateway.ask("GET", "/d/k")).body == DATA


async def test_writing_with_every_node_down(tmp_path: Path) -> None:
    """When no device takes the file the client gets 503 with Retry-After; no key is set, and possible data is
    deleted."""
    async with store_fixture(tmp_path, nginx=False, limits=QUICK) as gateway:
        await gateway.put("/d/k", b"before")
        for devid in (1, 2, 3):
            await gateway.stop_node(devid)
        answer = await gateway.put("/d/k", DATA)
        assert (answer.status, answer["Content-Type"]) == (503, "text/plain")
        assert b"127.0.0" not in answer.body
        assert (await gateway.stored(b"k")).length == 6
        backlog = await gateway.metadata.read(queues.backlog)
        assert (backlog["uploads"], backlog["delete"]) == (0, 1)


async def test_no_device_for_new_files(gateway: StoreFixture) -> None:
    """Without a device for new files a PUT is 507 before its body is received."""
    gateway.view.observe({})
    assert (await gateway.put("/d/k", DATA)).status == 507


# --- nginx itself -----------------------------------------------------------------------------------------------------


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(15):
        while not await happened():
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("victim", ["master", "worker"])
async def test_nginx_is_killed(tmp_path: Path, victim: str) -> None:
    """nginx is restarted automatically, on the same port, and no process of the old one stays."""
    async with store_fixture(tmp_path, nginx=True) as gateway:
        await gateway.put("/d/k", DATA)
        assert gateway.front is not None and gateway.front.pid is not None
        master = gateway.front.pid
        workers = children(master)
        os.kill(master if victim == "master" else workers[0], signal.SIGKILL)

        async def back() -> bool:
            try:
                return (await gateway.ask("GET", "/d/k")).body == DATA
            except (OSError, HTTPException):  # refused, or cut off with the nginx that was killed
                return False

        await until(back)

        async def gone() -> bool:
            return not alive(workers[0])

        await until(gone)
        assert (gateway.front.pid == master) == (victim == "worker")


async def test_nginx_processes_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """nginx's listening socket is non-blocking, so that a process that is too late for a connection continues at
    once."""
    async with store_fixture(tmp_path, nginx=True) as one:
        assert one.front is not None and one.front.pid is not None
        own = Path(f"/proc/{one.front.pid}")
        port = f":{one.gateway.address[1]:04X}"
        listening = [
            line.split()[9] for line in (own / "net/tcp").read_text().splitlines() if line.split()[1].endswith(port)
        ]
        fds = [each.name for each in (own / "fd").iterdir() if str(each.readlink()) == f"socket:[{listening[0]}]"]
        flags = [line.split()[1] for line in (own / "fdinfo" / fds[0]).read_text().splitlines() if line[:6] == "flags:"]
        assert int(flags[0], 8) & os.O_NONBLOCK


async def test_nginx_stops_with_the_gateway(tmp_path: Path) -> None:
    """A stop ends nginx and its workers within 5 seconds, also while a client is being served slowly."""
    async with store_fixture(tmp_path, nginx=True) as gateway:
        await gateway.put("/d/k", b"x" * 30_000_000)
        assert gateway.front is not None and gateway.front.pid is not None
        everyone = [gateway.front.pid, *children(gateway.front.pid)]
        reader, writer = await asyncio.open_connection(*gateway.gateway.address, limit=1024)
        writer.write(b"GET /d/k HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readline()
        async with asyncio.timeout(5):
            await gateway.gateway.stop()
        assert not any(map(alive, everyone))
        writer.transport.abort()
        with pytest.raises(OSError):
            await asyncio.open_connection(*gateway.gateway.address)


SERVE = """
import asyncio, structlog, sys
from pathlib import Path
import structlog
from tests.acceptance.gateway_fixture import store_fixture
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
async def main():
    async with store_fixture(Path(sys.argv[1]), nginx=True) as one:
        print(one.front.pid, one.gateway.address[1], flush=True)
        await asyncio.Event().wait()
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
asyncio.run(main())
"""


async def test_nginx_ends_with_the_gateway_process(tmp_path: Path) -> None:
    """When the gateway's process is killed the kernel ends nginx with it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    master = int((await asyncio.wait_for(process.stdout.readline(), 30)).split()[0])
    everyone = [master, *children(master)]
    assert all(map(alive, everyone))
    process.kill()
    await process.wait()

    async def gone() -> bool:
        return not any(map(alive, everyone))

    await until(gone)


async def test_the_next_start_after_gateway_and_master_were_killed(tmp_path: Path) -> None:
    """nginx's workers, which survive both and keep the port, are ended by the next gateway, which takes the port."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE, str(tmp_path / "old")),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    master, port = map(int, (await asyncio.wait_for(process.stdout.readline(), 30)).split())
    workers = children(master)
    os.kill(master, signal.SIGSTOP)  # so that it does not end its workers when the gateway is gone
    process.kill()
    await process.wait()
    os.kill(master, signal.SIGKILL)
    assert workers and all(map(alive, workers))
    async with store_fixture(tmp_path / "new", nginx=False) as other:
        with pytest.raises(PortTaken):
            await gateway_at(other, port, None).start()
        next_one = gateway_at(other, port, NginxFront(tmp_path / "old" / DIRECTORY, workers=1))
        await next_one.start()
        try:
            assert not any(map(alive, workers))
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"HEAD /.tawara/health HTTP/1.0\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 ")
            writer.close()
        finally:
            await next_one.stop()


async def test_a_directory_in_use(tmp_path: Path) -> None:
    """A second gateway with the same directory does not start, and does not affect the first one's nginx."""
    async with store_fixture(tmp_path, nginx=True) as one:
        assert one.front is not None
        second = gateway_at(one, 0, NginxFront(one.front.directory, workers=1))
        with pytest.raises(ConfigurationError, match="Another gateway runs"):
            await second.start()
        assert (await one.ask("GET", "/", headers=AUTHORISED)).status == 200


def gateway_at(one: StoreFixture, port: int, front: NginxFront | None) -> Gateway:
    """Another gateway to the same store."""
    return Gateway(
        one.metadata, one.view, one.gateway._nodes, one.wakeups,
        listen=("127.0.0.1", port), secret="x" * 16, nginx=front,
    )  # fmt: skip


async def test_nginx_reloads(tmp_path: Path) -> None:
    """A reload replaces the workers, and no connection is lost."""
    async with store_fixture(tmp_path, nginx=True) as gateway:
        await gateway.put("/d/k", DATA)
        assert gateway.front is not None and gateway.front.pid is not None
        before = children(gateway.front.pid)
        await gateway.front.reload()

        async def replaced() -> bool:
            assert gateway.front is not None and gateway.front.pid is not None
            assert (await gateway.ask("GET", "/d/k")).body == DATA
            return not set(before) & set(children(gateway.front.pid))

        await until(replaced)


async def test_leftovers_are_removed(tmp_path: Path) -> None:
    """Bodies received by a killed nginx are removed at the next start; its directory is private."""
    async with store_fixture(tmp_path, nginx=True) as gateway:
        assert gateway.front is not None
        left = gateway.front.directory / "bodies" / "0000000001"
        left.write_bytes(b"half a body")
        assert gateway.front.directory.stat().st_mode & 0o777 == 0o700
        front = gateway.front
        await gateway.gateway.stop()
        with socket.create_server(("127.0.0.1", 0)) as public, front.open_socket():
            front._prepare({ListenerProtocol.HTTP: public}, None, Limits())
        assert not left.exists()


async def test_a_taken_port(tmp_path: Path) -> None:
    """A port in use is reported with its purpose, and nothing stays behind."""
    async with store_fixture(tmp_path, nginx=True) as gateway:
        other = gateway_at(gateway, gateway.gateway.address[1], None)
        with pytest.raises(PortTaken, match="the gateway wants it"):
            await other.start()


async def test_a_broken_nginx(tmp_path: Path) -> None:
    """An nginx that does not start is reported in one line."""
    async with store_fixture(tmp_path, nginx=True) as gateway:
        front = NginxFront(tmp_path / "other", binary=Path("/bin/false"))
        front.take_directory()
        told = pytest.raises(ConfigurationError, match="nginx does not start")
        with socket.create_server(("127.0.0.1", 0)) as public, front.open_socket(), told:
            await front.start({ListenerProtocol.HTTP: public}, None, Limits())
        assert (await gateway.ask("GET", "/", headers=AUTHORISED)).status == 200
