"""A running process continuously compares its database with the marks on devices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tawara.metadata import cluster, epochs
from tawara.metadata.contract import Transaction
from tawara.model.epoch import Lineage
from tawara.wire import epoch
from tawara.workers.monitor import Monitor
from tests.unit.workers.workers_fixture import WorkersFixture, workers_fixture


def mark_of(fixture: WorkersFixture, devid: int) -> Path:
    return fixture.directory / fixture.devices[devid] / f"dev{devid}" / epoch.FILE


async def lineage(fixture: WorkersFixture) -> Lineage:
    known = await fixture.metadata.read(epochs.lineage)
    assert known is not None
    return known


def mark(fixture: WorkersFixture, devid: int, known: Lineage) -> None:
    path = mark_of(fixture, devid)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(epoch.render(known.current))


async def test_the_first_epoch_begins_automatically(tmp_path: Path) -> None:
    """If no device has a mark, as after an upgrade, the first epoch begins, and the database is not declared stale."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        known = await lineage(fixture)
        await fixture.view.renew()
        assert await lineage(fixture) == known
        assert not fixture.view.current.stale


@pytest.mark.parametrize("kind", ["later", "diverged"])
async def test_another_database_is_in_use(tmp_path: Path, kind: str) -> None:
    """A mark that another database leaves on a device later is noticed, and the database stays stale when the mark is
    gone."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        known = await lineage(fixture)
        mark(fixture, 1, known)
        await fixture.view.renew()
        assert not fixture.view.current.stale
        if kind == "later":
            mark(fixture, 2, known.advanced("ffff"))
        else:
            await fixture.metadata.write(epochs.advance, "aaaa")
            mark(fixture, 2, known.advanced("ffff"))
        await fixture.view.renew()
        assert "dev2 carries epoch" in fixture.view.current.stale
        mark_of(fixture, 2).unlink()
        await fixture.view.renew()
        assert fixture.view.current.stale


async def test_devices_that_lag_behind(tmp_path: Path) -> None:
    """Devices that were absent, and have an older or a damaged mark, do not make the database stale."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        mark(fixture, 1, await lineage(fixture))
        for number in range(200):
            await fixture.metadata.write(epochs.advance, f"{number:04x}")
        mark(fixture, 2, await lineage(fixture))
        mark_of(fixture, 2).write_bytes(mark_of(fixture, 2).read_bytes()[:-3])
        await fixture.view.renew()
        assert not fixture.view.current.stale
        assert all(fixture.view.current.is_writeable(devid) for devid in (1, 2))


async def test_a_database_without_an_epoch(tmp_path: Path) -> None:
    """A database from before epochs, restored in a store with epochs, is older than its devices."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        mark(fixture, 1, await lineage(fixture))
        await fixture.metadata.write(_forget_epoch)
        await fixture.view.refresh()
        fresh = Monitor(fixture.view, fixture.metadata, fixture.nodes, side_channel_port=None)
        await fresh.refresh_devices()
        assert "knows none" in fixture.view.current.stale
        assert await fixture.metadata.read(epochs.lineage) is None


async def test_a_device_of_another_store_is_not_used(tmp_path: Path) -> None:
    """A device of another store is not written, and the rest of the store continues."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        mark(fixture, 2, replace(await lineage(fixture), store="f" * 16))
        await fixture.view.renew()
        assert not fixture.view.current.stale
        assert fixture.view.current.is_writeable(1)
        assert not fixture.view.current.is_writeable(2)
        assert "tawara device accept dev2" in (fixture.view.current.observed[2].trouble or "")


async def _forget_epoch(tx: Transaction) -> None:
    await cluster.set_setting(tx, epochs.EPOCH, None)
