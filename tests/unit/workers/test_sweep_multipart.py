"""The parts of uploads that have ended are removed, those of uploads under way are not."""

from __future__ import annotations

from pathlib import Path

from tawara.metadata import cluster, files, multipart
from tawara.metadata.contract import Transaction
from tawara.model.multipart import LAPSE, MultipartUpload
from tawara.model.reserved_keys import part_key
from tawara.workers.sweep_multipart import SEARCH_PERIOD, SweepMultipart
from tests.unit.workers.replicate_fixture import SMALL_FILE
from tests.unit.workers.workers_fixture import WorkersFixture, workers_fixture


async def upload(fixture: WorkersFixture, number: int, *, age: int = 0) -> str:
    """An upload with a part, begun `age` seconds ago; its id."""
    now = await fixture.metadata.clock.seconds()
    made = MultipartUpload(f"{number:032x}", fixture.dmid, b"k", 0, (1,), "a" * 64, now - age)
    await fixture.metadata.write(multipart.add, made)
    await fixture.store(part_key(made.upload_id, 1), SMALL_FILE, 1)
    return made.upload_id


def worker_of(fixture: WorkersFixture) -> SweepMultipart:
    """The worker of a process that has just started."""
    return SweepMultipart(fixture.metadata, fixture.view, delete_wakeup=fixture.wakeups.delete)


async def sweep(fixture: WorkersFixture) -> set[str]:
    """Do all that is due; return the uploads that were swept."""
    worker = worker_of(fixture)
    items = await worker.take(10)
    assert await worker.take(10) == [], "a unit is taken once"
    for item in items:
        await worker.work(item)
    return {each.upload_id for each in items}


async def change(tx: Transaction, statement: str, *values: object) -> None:
    """Run one statement."""
    await tx.run(statement, *values)


async def has_parts(fixture: WorkersFixture, upload_id: str) -> bool:
    """Whether an upload has parts."""
    return bool(await fixture.metadata.read(multipart.list_parts, fixture.dmid, upload_id, None, 1))


async def test_what_is_swept(tmp_path: Path) -> None:
    """Aborted uploads and parts without an upload lose their parts at once; the others keep theirs."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        open_, aborted, lost = [await upload(fixture, number) for number in range(3)]
        file = await fixture.store(b"k", SMALL_FILE, 1)
        await fixture.metadata.write(multipart.abort, aborted)
        await fixture.metadata.write(change, "DELETE FROM tawara_multipart WHERE upload_id = ?", lost)
        assert await sweep(fixture) == {aborted, lost}
        assert [await has_parts(fixture, each) for each in (open_, aborted, lost)] == [True, False, False]
        assert await sweep(fixture) == set()
        assert await fixture.metadata.read(multipart.find, aborted) is None
        assert await fixture.metadata.read(files.find_fid, file) is not None


async def test_uploads_lapse(tmp_path: Path) -> None:
    """An upload is aborted when its newest part is older than the setting allows; 0 keeps it."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        one = await upload(fixture, 1, age=1000)
        await fixture.metadata.write(change, "UPDATE tawara_file SET stored_at = stored_at - 1000")
        nothing = set[str]()
        for setting, swept in (("0", nothing), ("2000s", nothing), ("500s", {one})):
            await fixture.metadata.write(cluster.set_setting, LAPSE, setting)
            await fixture.view.refresh()
            assert await sweep(fixture) == swept
        assert not await has_parts(fixture, one)


async def test_searching_is_rare(tmp_path: Path) -> None:
    """The whole store is searched at the start and then once an hour; ended uploads are found in each pass."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        worker = worker_of(fixture)
        assert await worker.take(10) == []
        lost, aborted = await upload(fixture, 1), await upload(fixture, 2)
        await fixture.metadata.write(change, "DELETE FROM tawara_multipart WHERE upload_id = ?", lost)
        await fixture.metadata.write(multipart.abort, aborted)
        assert [each.upload_id for each in await worker.take(10)] == [aborted]
        worker._next_search -= SEARCH_PERIOD
        assert [each.upload_id for each in await worker.take(10)] == [lost]
