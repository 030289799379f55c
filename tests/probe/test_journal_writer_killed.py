"""The journal writer is killed while it works: written journals stay readable, and the next one writes the rest. At any
time the journals have everything written before and, at most, what was being written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tawara.metadata import files, journals
from tawara.metadata.contract import Transaction
from tawara.model.journal_records import JournalEvidence
from tawara.recovery.journal_collector import JournalCollector
from tests.journal_evidence import gathered
from tests.probe.gate import Held
from tests.probe.test_worker_killed import Cluster, cluster

TIMEOUT = 60.0


async def read_journals(probed: Cluster) -> tuple[JournalEvidence, JournalCollector]:
    """The metadata in the journals on the devices, and the statistics of reading them."""
    fixture = probed.fixture
    found = await gathered((fixture.directory / host / f"dev{devid}", devid) for devid, host in fixture.devices.items())
    assert not found[1].damaged
    assert not found[0].rivals
    return found


async def keys(probed: Cluster) -> set[bytes]:
    return {file.facts.key for file in (await read_journals(probed))[0].files}


async def live(probed: Cluster) -> dict[int, object]:
    every = await probed.fixture.metadata.read(files.list_fids, 0, 1000)
    return {file.fid: (journals.facts_of(file), tuple(sorted(file.devids))) for file in every}


async def written(probed: Cluster) -> None:
    """Run a worker until nothing is left to write; the journals then agree with the rows."""
    async with probed.worker(), asyncio.timeout(TIMEOUT):
        while not await probed.fixture.metadata.read(_done):
            await asyncio.sleep(0.05)
    evidence, gathering = await read_journals(probed)
    assert {file.fid: (file.facts, file.devids) for file in evidence.files} == await live(probed)
    assert not gathering.incomplete


async def _done(tx: Transaction) -> bool:
    due = await journals.read_due(tx)
    waiting = await tx.row("SELECT 1 FROM file_to_replicate UNION SELECT 1 FROM file_to_delete2")
    return (
        not due.noted
        and not waiting
        and set(due.journals) == {1, 2}
        and all(each.generation and each.position is None and not each.old_segments for each in due.journals.values())
    )


async def _round(tx: Transaction) -> None:
    """Make a compaction due."""
    await tx.run("UPDATE tawara_journal SET written = 1000000, nexttry = 0")
    await tx.run("INSERT INTO tawara_note (devid, fid) SELECT devid, fid FROM file_on")


@pytest.mark.parametrize("held", list(Held))
async def test_killed_in_the_first_compaction(tmp_path: Path, held: Held) -> None:
    """Journals that were never completed are written by the next worker."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probed:
        for number in range(30):
            await probed.fixture.store(b"k%d" % number, b"x", 1, 2)
        await probed.kill_while_held("h1", rb"PUT /dev1/names/[ab]/", held)
        await written(probed)


@pytest.mark.parametrize("held", list(Held))
async def test_killed_while_writing_changes(tmp_path: Path, held: Held) -> None:
    """Earlier records stay readable; a deleted key does not reappear, and a stored one is not lost."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probed:
        fixture = probed.fixture
        for number in range(5):
            await fixture.store(b"k%d" % number, b"x", 1, 2)
        await written(probed)
        await fixture.store(b"more", b"y", 1, 2)
        await written(probed)
        before = await keys(probed)
        await fixture.metadata.write(files.rename, fixture.dmid, b"k1", b"renamed")
        await fixture.metadata.write(files.delete, fixture.dmid, b"k2", now=1)
        await fixture.store(b"new", b"z", 1, 2)
        await probed.kill_while_held("h1", rb"PUT /dev1/names/tail", held)
        between = await keys(probed)
        assert before - {b"k1", b"k2"} <= between <= before | {b"renamed", b"new"}
        await written(probed)
        assert await keys(probed) == before - {b"k1", b"k2"} | {b"renamed", b"new"}


@pytest.mark.parametrize(
    ("request_line", "held"),
    [
        (rb"PUT /dev1/names/[ab]/", Held.BEFORE),
        (rb"PUT /dev1/names/[ab]/", Held.AFTER),
        (rb"DELETE /dev1/names/", Held.BEFORE),
        (rb"DELETE /dev1/names/", Held.AFTER),
    ],
)
async def test_killed_in_a_later_compaction(tmp_path: Path, request_line: bytes, held: Held) -> None:
    """During a compaction the journals have all files at any time, and no deleted ones."""
    async with cluster(tmp_path, {"h1": [1], "h2": [2]}) as probed:
        fixture = probed.fixture
        for number in range(5):
            await fixture.store(b"k%d" % number, b"x", 1, 2)
        await written(probed)
        await fixture.metadata.write(files.delete, fixture.dmid, b"k2", now=1)
        await written(probed)
        before = await keys(probed)
        await fixture.metadata.write(_round)
        await probed.kill_while_held("h1", request_line, held)
        assert await keys(probed) == before
        await written(probed)
        assert await keys(probed) == before
