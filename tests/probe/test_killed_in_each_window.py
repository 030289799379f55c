"""A tracker or a worker is killed between any two pieces that it sends or is sent: nothing is lost, nothing is left."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.store import free_ports
from tests.contract.servers import PASSWORD, Listen, PostgresServer, Server
from tests.probe.windows import VERBS, kill_in_each, windows

ALL = bool(os.environ.get("TAWARA_PROBE_ALL"))
STRIDE = 1 if ALL else 41
"""Only every so many windows, for time; `make probe` tries all."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server that is reached by a network."""
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    running = PostgresServer(None, Listen("127.0.0.1", free_ports(1)[0], "127.0.0.0/8"))
    yield running
    running.remove()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", VERBS)
async def test_killed_in_each_window(tmp_path: Path, server: Server, verb: str) -> None:
    """Whatever is cut short, every key has what was acknowledged, in two copies, and no bytes lie without a row."""
    url = server.create(f"windows_{uuid.uuid4().hex[:8]}")
    async with windows(tmp_path, url) as store:
        assert await kill_in_each(store, verb, stride=STRIDE if verb != "create_close" else min(STRIDE, 7)) > 1
        await store.settle()
