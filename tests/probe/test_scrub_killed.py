"""A bit flips on a disk, and the worker that repairs it is killed between any two steps: the good replica remains."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pytest

from tawara.metadata import queues
from tawara.metadata.contract import Transaction
from tawara.model.cluster import Checksum, HashType
from tawara.model.files import TaskType
from tests.probe.gate import Held
from tests.probe.test_worker_killed import cluster

CONTENT = b"a bale of rice"
ROTTEN = b"a bale of rise"
SUM = Checksum(HashType.MD5, hashlib.md5(CONTENT).digest())


@pytest.mark.parametrize(
    ("host", "request_line", "held"),
    [
        ("h2", rb"GET /dev2/\d/", Held.BEFORE),
        ("h2", rb"GET /dev2/\d/", Held.AFTER),
        ("h2", rb"DELETE /dev2/\d/", Held.BEFORE),
        ("h2", rb"DELETE /dev2/\d/", Held.AFTER),
        ("h2", rb"PUT /dev2/\d/", Held.BEFORE),
        ("h2", rb"PUT /dev2/\d/", Held.HALF_WAY),
        ("h2", rb"PUT /dev2/\d/", Held.AFTER),
    ],
)
async def test_killed_while_it_repairs(tmp_path: Path, host: str, request_line: bytes, held: Held) -> None:
    """The good replica stays, the damaged one is not served once it is known, and both are good in the end."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probed:
        fixture = probed.fixture
        fid = await fixture.store(b"key", CONTENT, 1, 2, checksum=SUM)
        await fixture.metadata.write(_nothing_to_replicate)
        fixture.place(2, fid).write_bytes(ROTTEN)
        await fixture.metadata.write(queues.enqueue_tasks, TaskType.SCRUB, [(fid, None, "")], now=int(time.time()))
        await probed.kill_while_held(host, request_line, held)
        assert fixture.place(1, fid).read_bytes() == CONTENT
        assert 1 in await fixture.devids(fid)
        if not request_line.startswith(b"GET"):
            assert await fixture.devids(fid) == {1}
        assert await probed.settle() == {fid: {1, 2}}
        assert {fixture.place(devid, fid).read_bytes() for devid in (1, 2)} == {CONTENT}


async def _nothing_to_replicate(tx: Transaction) -> None:
    await tx.run("DELETE FROM file_to_replicate")
