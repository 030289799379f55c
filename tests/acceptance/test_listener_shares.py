"""Idle connections and few open files block no listener: each has a share, and idle connections are closed for new
ones."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tawara import listening
from tawara.model.limits import Limits
from tests.acceptance.node_process import running
from tests.acceptance.store import TAWARA, free_ports

ASK = b"GET /dev1/usage HTTP/1.1\r\nHost: n\r\n\r\n"


@pytest.mark.parametrize("fast_path", [True, False])
async def test_idle_connections_to_a_node_are_replaced(tmp_path: Path, fast_path: bool) -> None:
    """A storage node full of kept connections serves a new client, whichever of its two servers has them."""
    async with running(tmp_path, Limits(connections=8), fast_path=fast_path) as node:
        kept = []
        for _ in range(8):
            reader, writer = await asyncio.open_connection(*node.http_address)
            writer.write(ASK)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            kept.append(writer)
        reader, writer = await asyncio.open_connection(*node.http_address)
        writer.write(ASK)
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).startswith(b"HTTP/1.1 200")
        for each in [*kept, writer]:
            each.close()


async def test_idle_side_channels_are_replaced(tmp_path: Path) -> None:
    """A side channel full of idle connections serves a new client."""
    async with running(tmp_path, Limits(side_channels=8)) as node:
        kept = [await asyncio.open_connection(*node.side_address) for _ in range(8)]
        reader, writer = await asyncio.open_connection(*node.side_address)
        writer.write(b"size /dev1/0/000/000/0000000001.fid\n")
        assert await asyncio.wait_for(reader.readline(), 60) == b"/dev1/0/000/000/0000000001.fid -1\r\n"
        for each in [*(writer for _, writer in kept), writer]:
            each.close()


@pytest.mark.parametrize(("descriptors", "share", "most"), [(1, 0.75, 192), (4, 0.25, 16), (4, 0.001, 8)])
def test_a_listener_keeps_its_share(descriptors: int, share: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of a listener never need more open files than its share, except for a few fixed ones."""
    monkeypatch.setattr("tawara.listening.resource.getrlimit", lambda _: (256, 256))
    listener = listening.TcpListener(
        ("127.0.0.1", 0), "a test", lambda _: asyncio.Protocol(), connections=1000, descriptors=descriptors, share=share
    )
    assert listener.most == most
    listener._socket.close()


@pytest.mark.timeout(240)
def test_a_store_with_few_open_files_and_many_idle_clients(tmp_path: Path) -> None:
    """With 256 open files and 300 idle clients of its tracker a store answers new ones, and logs the reason in few
    lines."""
    tracker, node, side, gateway = free_ports(4)
    listens = {"tracker.listen": tracker, "node.listen": node, "node.side_channel": side, "gateway.listen": gateway}
    settings = [f"--set={name}=127.0.0.1:{port}" for name, port in listens.items()]
    settings += ["--set=s3.listen=", "--set=dav.listen="]
    limited = ["prlimit", "--nofile=256:256", *TAWARA, "up", str(tmp_path / "s"), "--no-nginx", "--json", *settings]
    with ExitStack() as stack, (tmp_path / "log").open("wb") as log:
        store = stack.enter_context(subprocess.Popen(limited, stdout=subprocess.PIPE, stderr=log, text=True))
        stack.callback(store.terminate)
        assert store.stdout is not None
        assert json.loads(store.stdout.readline())["event"] == "ready"
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", tracker), 60))
        for number in range(5):
            subprocess.run(
                [*TAWARA, "put", "-", f"files/{number}", "--tracker", f"127.0.0.1:{tracker}"],
                input=os.urandom(100),
                check=True,
                timeout=100,
            )
    said = [json.loads(line)["event"] for line in (tmp_path / "log").read_text().splitlines()]
    assert 1 <= said.count("listener_full") <= 4
