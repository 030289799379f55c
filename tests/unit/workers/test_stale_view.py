"""Workers whose view of the cluster is older than their work: unknown devices are not treated as lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tawara.metadata import cluster as rows
from tawara.metadata import deferrals, files, queues, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.deferrals import BlockedOn
from tawara.metadata.view import ClusterView
from tawara.model.cluster import DeviceState
from tawara.workers.cleanup_orphans import CleanupOrphans
from tawara.workers.delete_files import DeleteFiles
from tawara.workers.replicate_files import ReplicateFiles
from tawara.workers.retry_deferred import RetryDeferred
from tests.unit.workers.workers_fixture import DOMAIN, WorkersFixture, set_state, workers_fixture

CONTENT = b"a bale of rice"
NEW = 3


async def stale_view(fixture: WorkersFixture) -> ClusterView:
    """The view of another process, which is refreshed only when it has a reason."""
    view = ClusterView(fixture.metadata, min_free_mb=1)
    await view.refresh()
    view.observe(fixture.view.current.observed)

    async def refresh_devices() -> None:
        await fixture.view.renew()
        await view.refresh()
        view.observe(fixture.view.current.observed)

    view.refresh_devices = refresh_devices
    return view


async def add_device(fixture: WorkersFixture) -> None:
    """Add the device NEW, known to this process and observed as healthy."""
    (fixture.directory / "h2" / f"dev{NEW}").mkdir()
    fixture.devices = {**fixture.devices, NEW: "h2"}
    hostid = fixture.view.current.hosts_by_name["h2"].hostid
    await fixture.metadata.write(rows.create_device, NEW, hostid)
    await fixture.storage["h2"].check_devices()
    async with asyncio.timeout(30):
        while not fixture.view.current.is_writeable(NEW):
            await fixture.view.renew()
            await asyncio.sleep(0.01)


async def do_due(worker: Any) -> None:
    for item in await worker.take(100):
        await worker.work(item)


async def test_data_on_a_new_device_is_deleted(tmp_path: Path) -> None:
    """A file that was stored on a device and deleted before the worker knew of the device leaves no bytes."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        view = await stale_view(fixture)
        await add_device(fixture)
        await fixture.store(b"key", CONTENT, 1, NEW)
        await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=int(time.time()))
        await do_due(DeleteFiles(fixture.metadata, view, fixture.nodes))
        assert fixture.on_disk() == {}
        assert (await fixture.metadata.read(queues.backlog))["delete"] == 0


async def test_data_on_a_revived_device_is_deleted(tmp_path: Path) -> None:
    """A device that is dead only in an old view is not lost either."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await fixture.metadata.write(rows.set_device_state, "h2", 2, DeviceState.DEAD)
        view = await stale_view(fixture)
        for state in (DeviceState.DOWN, DeviceState.ALIVE):
            await fixture.metadata.write(rows.set_device_state, "h2", 2, state)
        await fixture.view.renew()
        await fixture.store(b"key", CONTENT, 1, 2)
        await fixture.metadata.write(files.delete, fixture.dmid, b"key", now=int(time.time()))
        await do_due(DeleteFiles(fixture.metadata, view, fixture.nodes))
        assert fixture.on_disk() == {}


async def test_leftovers_on_a_new_device_are_swept(tmp_path: Path) -> None:
    """Data of an abandoned write is deleted from a device that the sweeper did not know."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        view = await stale_view(fixture)
        await add_device(fixture)
        fid = await fixture.store(b"key", CONTENT, 1)
        await fixture.nodes.put(fixture.url(NEW, fid), CONTENT, length=len(CONTENT))
        await fixture.metadata.write(replicas.record_orphan, fid, NEW, now=1)
        await do_due(CleanupOrphans(fixture.metadata, view, fixture.nodes, wakeups=fixture.wakeups, upload_open=3600))
        assert fixture.on_disk() == {fid: {1}}


@pytest.mark.parametrize("place", [1, NEW])
async def test_the_first_file_on_a_new_device_is_copied_at_once(tmp_path: Path, place: int) -> None:
    """A device that the worker did not know of is read from, and written to, without a failure first."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        await set_state(fixture, 2, DeviceState.READONLY)
        view = await stale_view(fixture)
        await add_device(fixture)
        fid = await fixture.store(b"key", CONTENT, place)
        await do_due(ReplicateFiles(fixture.metadata, view, fixture.nodes, delete_wakeup=fixture.wakeups.delete))
        assert fixture.on_disk() == {fid: {1, NEW}}


async def test_the_first_file_of_a_new_class_is_copied_at_once(tmp_path: Path) -> None:
    """A class that another process has just created is known before its first file is examined."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        view = await stale_view(fixture)
        classid = await fixture.new_class("new", 2, "MultipleHosts()")
        fid = await fixture.store(b"key", CONTENT, 1, classid=classid)
        await do_due(ReplicateFiles(fixture.metadata, view, fixture.nodes, delete_wakeup=fixture.wakeups.delete))
        assert fixture.on_disk() == {fid: {1, 2}}


async def test_the_current_number_of_copies_is_made(tmp_path: Path) -> None:
    """A file does not leave the queue with the number of copies that its class required before."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        classid = await fixture.new_class("few", 2, "MultipleHosts()")
        view = await stale_view(fixture)
        await fixture.metadata.write(rows.update_class, DOMAIN, "few", mindevcount=3)
        fid = await fixture.store(b"key", CONTENT, 1, 2, classid=classid)
        await do_due(ReplicateFiles(fixture.metadata, view, fixture.nodes, delete_wakeup=fixture.wakeups.delete))
        assert fixture.on_disk() == {fid: {1, 2, 3}}


async def test_a_note_of_a_new_device_is_kept(tmp_path: Path) -> None:
    """A deferral note of a device is kept by a process that does not know the device yet."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        view = await stale_view(fixture)
        await add_device(fixture)
        await fixture.metadata.write(deferrals.note, BlockedOn(missed=frozenset({NEW})), now=int(time.time()))
        noted = (await fixture.view.refresh()).settings
        view.current = replace(view.current, settings=noted)
        await RetryDeferred(fixture.metadata, view, fixture.wakeups).take(1)
        assert deferrals.notes((await fixture.view.refresh()).settings)


async def test_the_later_of_two_reads_counts(tmp_path: Path) -> None:
    """A slow read of the cluster that ends after a later one does not replace its result."""

    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        slow, go_on = Slow(fixture.metadata), asyncio.Event()
        view = ClusterView(slow)  # type: ignore[arg-type] # reads alone
        slow.waits_for = go_on
        first = asyncio.create_task(view.refresh())
        await slow.waiting.wait()
        slow.waits_for = None
        await fixture.metadata.write(rows.create_domain, "later")
        await view.refresh()
        go_on.set()
        assert "later" in (await first).domains
        assert "later" in view.current.domains


class Slow:
    """A database whose answers are delayed by the test."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self.waits_for: asyncio.Event | None = None
        self.waiting = asyncio.Event()

    async def read(self, *args: Any, **kwargs: Any) -> Any:
        answer = await self._metadata.read(*args, **kwargs)
        if self.waits_for is not None:
            self.waiting.set()
            await self.waits_for.wait()
        return answer
