"""Workers whose view of the cluster is older than what they are given to do: what is not known is not lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tawara.metadata import cluster as rows
from tawara.metadata import files, missed, queues, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.missed import Blame
from tawara.metadata.view import ClusterView
from tawara.model.cluster import DeviceState
from tawara.workers.delete import Delete
from tawara.workers.hasten import Hasten
from tawara.workers.replicate import Replicate
from tawara.workers.sweep import Sweep
from tests.unit.workers.house import DOMAIN, House, house, set_state

CONTENT = b"a bale of rice"
NEW = 3


async def stale_view(home: House) -> ClusterView:
    """What another process knows, which looks at the cluster only when it has a reason to."""
    view = ClusterView(home.metadata, min_free_mb=1)
    await view.refresh()
    view.observe(home.view.current.observed)

    async def look_again() -> None:
        await home.view.renew()
        await view.refresh()
        view.observe(home.view.current.observed)

    view.look_again = look_again
    return view


async def add_device(home: House) -> None:
    """The device NEW, known to this process and seen to be well."""
    (home.directory / "h2" / f"dev{NEW}").mkdir()
    home.devices = {**home.devices, NEW: "h2"}
    hostid = home.view.current.hosts_by_name["h2"].hostid
    await home.metadata.write(rows.create_device, NEW, hostid)
    async with asyncio.timeout(30):
        while not home.view.current.is_writeable(NEW):
            await home.view.renew()
            await asyncio.sleep(0.01)


async def do_due(worker: Any) -> None:
    for item in await worker.take(100):
        await worker.work(item)


async def test_bytes_on_a_new_device_are_deleted(tmp_path: Path) -> None:
    """A file that was stored on a device and deleted before the worker knew of the device leaves no bytes."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        view = await stale_view(home)
        await add_device(home)
        await home.store(b"key", CONTENT, 1, NEW)
        await home.metadata.write(files.delete, home.dmid, b"key", now=int(time.time()))
        await do_due(Delete(home.metadata, view, home.nodes))
        assert home.on_disk() == {}
        assert (await home.metadata.read(queues.backlog))["delete"] == 0


async def test_bytes_on_a_device_that_came_back_from_the_dead_are_deleted(tmp_path: Path) -> None:
    """Nor is a device lost that is dead only in an old view."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await home.metadata.write(rows.set_device_state, "h2", 2, DeviceState.DEAD)
        view = await stale_view(home)
        for state in (DeviceState.DOWN, DeviceState.ALIVE):
            await home.metadata.write(rows.set_device_state, "h2", 2, state)
        await home.view.renew()
        await home.store(b"key", CONTENT, 1, 2)
        await home.metadata.write(files.delete, home.dmid, b"key", now=int(time.time()))
        await do_due(Delete(home.metadata, view, home.nodes))
        assert home.on_disk() == {}


async def test_what_is_left_on_a_new_device_is_swept(tmp_path: Path) -> None:
    """Bytes of a write that was given up go from a device that the sweeper did not know of."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        view = await stale_view(home)
        await add_device(home)
        fid = await home.store(b"key", CONTENT, 1)
        await home.nodes.put(home.url(NEW, fid), CONTENT, length=len(CONTENT))
        await home.metadata.write(replicas.announce_stray, fid, NEW, now=1)
        await do_due(Sweep(home.metadata, view, home.nodes, bells=home.bells, upload_open=3600))
        assert home.on_disk() == {fid: {1}}


@pytest.mark.parametrize("place", [1, NEW])
async def test_the_first_file_on_a_new_device_gets_its_copy_at_once(tmp_path: Path, place: int) -> None:
    """A device that the worker did not know of is read from, and written to, without a failure first."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        await set_state(home, 2, DeviceState.READONLY)
        view = await stale_view(home)
        await add_device(home)
        fid = await home.store(b"key", CONTENT, place)
        await do_due(Replicate(home.metadata, view, home.nodes, delete_bell=home.bells.delete))
        assert home.on_disk() == {fid: {1, NEW}}


async def test_the_first_file_of_a_new_class_gets_its_copies_at_once(tmp_path: Path) -> None:
    """A class that was made a moment ago by someone else is known before its first file is looked at."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        view = await stale_view(home)
        classid = await home.new_class("new", 2, "MultipleHosts()")
        fid = await home.store(b"key", CONTENT, 1, classid=classid)
        await do_due(Replicate(home.metadata, view, home.nodes, delete_bell=home.bells.delete))
        assert home.on_disk() == {fid: {1, 2}}


async def test_more_copies_than_the_worker_knows_of_are_made(tmp_path: Path) -> None:
    """A file does not leave the queue by the number of copies that its class wanted before."""
    async with house(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as home:
        classid = await home.new_class("few", 2, "MultipleHosts()")
        view = await stale_view(home)
        await home.metadata.write(rows.update_class, DOMAIN, "few", mindevcount=3)
        fid = await home.store(b"key", CONTENT, 1, 2, classid=classid)
        await do_due(Replicate(home.metadata, view, home.nodes, delete_bell=home.bells.delete))
        assert home.on_disk() == {fid: {1, 2, 3}}


async def test_a_note_of_a_new_device_is_kept(tmp_path: Path) -> None:
    """That work was put off for the sake of a device is not forgotten by a process that does not know it yet."""
    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        view = await stale_view(home)
        await add_device(home)
        await home.metadata.write(missed.note, Blame(missed=frozenset({NEW})), now=int(time.time()))
        noted = (await home.view.refresh()).settings
        view.current = replace(view.current, settings=noted)
        await Hasten(home.metadata, view, home.bells).take(1)
        assert missed.notes((await home.view.refresh()).settings)


async def test_of_two_reads_the_later_counts(tmp_path: Path) -> None:
    """A slow read of the cluster that ends after a later one does not take back what that one found."""

    async with house(tmp_path, {"h1": [1], "h2": [2]}) as home:
        slow, go_on = Slow(home.metadata), asyncio.Event()
        view = ClusterView(slow)  # type: ignore[arg-type] # reads alone
        slow.waits_for = go_on
        first = asyncio.create_task(view.refresh())
        await slow.waiting.wait()
        slow.waits_for = None
        await home.metadata.write(rows.create_domain, "later")
        await view.refresh()
        go_on.set()
        assert "later" in (await first).domains
        assert "later" in view.current.domains


class Slow:
    """A database whose answers are late where a test says so."""

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
