"""A machine that is switched off during a connection: no refusal, no end, only silence."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from tawara.client.trackers import OutcomeUnknown, Trackers
from tawara.model.errors import NodeUnreachable
from tawara.nodes.client import NodeClient

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"
PRIVATE = ("unshare", "--user", "--map-root-user", "--net")


def _may_have_a_network() -> bool:
    return subprocess.run([*PRIVATE, "ip", "link"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _may_have_a_network(), reason="network namespaces are not allowed here")
@pytest.mark.parametrize("verb", ["put", "get", "ask"])
def test_the_machine_is_switched_off(verb: str) -> None:
    """Clients that upload, read, or query a tracker notice within seconds; a slow machine is given much longer."""
    subprocess.run([*PRIVATE, sys.executable, "-m", __name__, verb], check=True, timeout=60)


async def _vanish_during(verb: str) -> None:
    """In a separate network namespace: begin a request, remove the network, and expect an error."""
    begun = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n" if verb != "ask" else b"\n")
        if verb == "get":
            writer.write(HEAD)
            await writer.drain()
        begun.set()
        await asyncio.Event().wait()

    await _link("up")
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}/dev1/x"
    async with NodeClient(stall_timeout=3600) as nodes:
        trackers = Trackers([("127.0.0.1", port)], reply_timeout=3600)
        work: dict[str, Callable[[], Awaitable[object]]] = {
            "put": lambda: nodes.put(url, b"x", length=1),
            "get": lambda: _read(nodes, url),
            "ask": lambda: trackers.ask("create_close", once=True),
        }
        speaking = asyncio.ensure_future(work[verb]())
        await begun.wait()
        await _link("down")
        async with asyncio.timeout(40):
            try:
                await speaking
            except (NodeUnreachable, OutcomeUnknown):
                return
    raise AssertionError("nothing was noticed")


async def _read(nodes: NodeClient, url: str) -> None:
    async with nodes.get(url) as download:
        async for _ in download:
            pass


async def _link(state: str) -> None:
    process = await asyncio.create_subprocess_exec("ip", "link", "set", "lo", state)
    assert await process.wait() == 0


if __name__ == "__main__":
    asyncio.run(_vanish_during(sys.argv[1]))
