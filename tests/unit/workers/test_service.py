"""The workers of a process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tawara.metadata import pace
from tawara.model.pace import COPIED
from tawara.workers.service import Workers, WorkersOptions
from tests.unit.workers.workers_fixture import workers_fixture


@pytest.mark.parametrize(("only", "told"), [("drain", {"drain"}), ("replicate", {"replicate", COPIED})])
async def test_a_process_may_have_one_worker(tmp_path: Path, only: str, told: set[str]) -> None:
    """Only the configured worker runs, and its throughput is recorded as usual."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        workers = Workers(fixture.metadata, fixture.view, fixture.nodes, fixture.wakeups, WorkersOptions(only=only))
        assert [each.name for each in workers.status()] == [only]
        await workers.start()
        async with asyncio.timeout(10):
            while not (found := await fixture.metadata.read(pace.load)):
                await asyncio.sleep(0.01)
        await workers.stop()
        assert {each.work for each in found} == told
