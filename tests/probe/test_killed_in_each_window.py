"""A tracker, worker or client is killed between any two pieces of its traffic: no loss, and nothing is left over."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.store import free_ports
from tests.contract.servers import PASSWORD, Listen, PostgresServer, Server
from tests.probe.windows import STRIDES, VERBS, kill_in_each, windows

ALL = bool(os.environ.get("TAWARA_PROBE_ALL"))
STRIDE = 1 if ALL else 41
"""Only every Nth window, to save time; `make probe` tries all."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A database server that is reached over TCP."""
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    running = PostgresServer(None, Listen("127.0.0.1", free_ports(1)[0], "127.0.0.0/8"))
    yield running
    running.remove()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", VERBS)
async def test_killed_in_each_window(tmp_path: Path, server: Server, verb: str) -> None:
    """Every key has its acknowledged content in two copies, and no data is without a row."""
    url = server.create(f"windows_{uuid.uuid4().hex[:8]}")
    async with windows(tmp_path, url) as store:
        assert await kill_in_each(store, verb, stride=min(STRIDE, STRIDES.get(verb, STRIDE))) > 1
        await store.settle()
