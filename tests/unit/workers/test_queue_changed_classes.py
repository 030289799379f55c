"""Stored files get more copies when their class requires more."""

from __future__ import annotations

from pathlib import Path

from tawara.metadata import class_changes
from tawara.workers.queue_changed_classes import QueueChangedClasses
from tests.unit.workers.replicate_fixture import SMALL_FILE, do_all
from tests.unit.workers.workers_fixture import DOMAIN, workers_fixture


async def test_existing_files_get_more_copies(tmp_path: Path) -> None:
    """Every file of the class gets the number of copies now required, without a check."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        classid = await fixture.new_class("few", 1, "MultipleHosts()")
        fids = [await fixture.store(b"k%d" % number, SMALL_FILE, 1, classid=classid) for number in range(3)]
        await do_all(fixture)
        assert fixture.on_disk() == {fid: {1} for fid in fids}
        await fixture.metadata.write(class_changes.update_class, DOMAIN, "few", mindevcount=3)
        await fixture.view.refresh()
        worker = QueueChangedClasses(fixture.metadata, fixture.view, replicate_wakeup=fixture.wakeups.replicate)
        for item in await worker.take(1):
            await worker.work(item)
        await do_all(fixture)
        assert fixture.on_disk() == {fid: {1, 2, 3} for fid in fids}
        assert await worker.take(1) == []
