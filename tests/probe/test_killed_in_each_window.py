"""A tracker or a worker is killed between any two pieces that it sends or is sent: nothing is lost, nothing is left."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.store import free_ports
from tests.contract.servers import PASSWORD, Listen, MariaServer, PostgresServer, Server
from tests.probe.windows import VERBS, kill_in_each, windows

ENGINES = {"postgresql": PostgresServer, "mysql": MariaServer}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    """Servers that are reached by a network, started when they are first asked for."""
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    running: dict[str, Server] = {}
    yield running
    for server in running.values():
        server.remove()


@pytest.mark.timeout(400)
@pytest.mark.xdist_group("windows")
@pytest.mark.parametrize("verb", VERBS)
async def test_killed_in_each_window(tmp_path: Path, servers: dict[str, Server], verb: str) -> None:
    """Whatever a window cuts short, every key has what was acknowledged, two copies, and no bytes lie without a row."""
    engine = "postgresql"
    if engine not in servers:
        servers[engine] = ENGINES[engine](None, Listen("127.0.0.1", free_ports(1)[0], "127.0.0.0/8"))
    url = servers[engine].create(f"windows_{uuid.uuid4().hex[:8]}")
    async with windows(tmp_path, url) as store:
        stride = int(os.environ.get("TAWARA_PROBE_STRIDE", random.choice((5, 6, 7))))
        count = await kill_in_each(store, verb, stride=stride)
        print(verb, "windows", count, "stride", stride)
        took = await store.settle()
        print("settled", took)
        assert count > 1
        assert await store.wrong() == []
