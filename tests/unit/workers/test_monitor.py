"""The monitor against real storage nodes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tawara.disks.devices import Devices, OpenFile
from tawara.metadata import cluster as rows
from tawara.model.cluster import DeviceState, Observed
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.nodes.usage_report import UsageReport
from tawara.workers.monitor import Monitor
from tests.unit.workers.workers_fixture import eventually, workers_fixture


async def test_first_round_is_quick(tmp_path: Path) -> None:
    """At once after its start, the monitor has written to every device, and knows how full each is."""
    async with workers_fixture(tmp_path, {"h1": [1, 2], "h2": [3]}, look=False) as fixture:
        monitor = Monitor(
            fixture.view, fixture.metadata, fixture.nodes, side_channel_port=None, period=600, frequent_period=600
        )
        await monitor.start()
        async with asyncio.timeout(20):
            await fixture.view.wait_observed()
        await monitor.stop()
        for devid in (1, 2, 3):
            assert fixture.view.current.should_get_new_files(devid)
            assert fixture.view.current.observed[devid].rejects_bad_md5
            assert (fixture.view.current.devices[devid].mb_total or 0) > 0


async def test_a_node_that_stops_and_returns(tmp_path: Path) -> None:
    """A node that stops is unreachable after the next round, the others are not; once back it is writeable."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        address = fixture.storage["h2"].http_address
        await fixture.storage["h2"].stop()
        await fixture.view.renew()
        assert fixture.view.current.observed[2].state is Observed.UNREACHABLE
        assert fixture.view.current.is_writeable(1)
        again = StorageNode(tmp_path / "h2", http=address, side_channel=None)
        await again.start()
        try:
            await fixture.view.renew()
            assert fixture.view.current.is_writeable(2)
        finally:
            await again.stop()


async def test_healthy_devices_are_checked_alternately(tmp_path: Path) -> None:
    """While all is well a round checks some devices of every host; when one fails, the next checks all."""
    async with workers_fixture(tmp_path, {"h1": [1, 2], "h2": [3, 4]}, look=False) as fixture:
        asked: list[str] = []

        class Counting(NodeClient):
            async def usage(self, url: str) -> UsageReport:
                asked.append(url.split("/")[3])
                return await super().usage(url)

        async with Counting() as nodes:
            monitor = Monitor(
                fixture.view, fixture.metadata, nodes, side_channel_port=None, period=600, frequent_period=600
            )

            async def look() -> set[str]:
                asked.clear()
                await monitor._run_round()
                return set(asked)

            everything = {"dev1", "dev2", "dev3", "dev4"}
            assert await look() == everything, "at first"
            rounds = [await look() for _ in range(3)]
            assert rounds[0] | rounds[1] == everything
            assert rounds[0] == rounds[2] == everything - rounds[1]
            assert all(len({int(name[3:]) > 2 for name in each}) == 2 for each in rounds), "both hosts"
            asked.clear()
            await monitor.refresh_devices()
            assert set(asked) == everything, "on demand"
            await fixture.storage["h2"].stop()
            missed = await look()
            assert len(missed) == 2
            assert await look() == everything, "one of h2 was missed"
            await monitor.stop()


async def test_a_device_without_its_directory(tmp_path: Path) -> None:
    """A device whose directory is missing (not mounted) is unreachable, its neighbours are not."""
    async with workers_fixture(tmp_path, {"h1": [1, 2]}) as fixture:
        (tmp_path / "h1" / "dev2").rename(tmp_path / "away")
        await fixture.view.renew()
        assert fixture.view.current.observed[2].state is Observed.UNREACHABLE
        assert fixture.view.current.is_writeable(1)


async def test_administrative_states(tmp_path: Path) -> None:
    """A read-only device is checked but not written to, a device that is down is not checked (docs/mogilefs.md 8.1)."""
    async with workers_fixture(tmp_path, {"h1": [1, 2]}) as fixture:
        await fixture.metadata.write(rows.set_device_state, "h1", 1, DeviceState.READONLY)
        await fixture.metadata.write(rows.set_device_state, "h1", 2, DeviceState.DOWN)
        await fixture.view.renew()
        assert fixture.view.current.observed[1].state is Observed.READABLE
        assert 2 not in fixture.view.current.observed
        await fixture.metadata.write(rows.set_device_state, "h1", 1, DeviceState.ALIVE)
        await fixture.view.renew()
        assert fixture.view.current.is_writeable(1)


async def test_a_silent_host_delays_no_other(tmp_path: Path) -> None:
    """A host that accepts connections and sends nothing is unreachable, and the others are checked meanwhile."""
    opened: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: opened.append(writer), "127.0.0.9", 0)
    async with workers_fixture(tmp_path, {"h1": [1]}, look=False) as fixture:
        port = silent.sockets[0].getsockname()[1]
        hostid = await fixture.metadata.write(rows.create_host, "mute", ip="127.0.0.9", http_port=port, state="alive")
        await fixture.metadata.write(rows.create_device, 7, hostid)
        await fixture.monitor.start()
        await fixture.view.wait_observed()
        assert fixture.view.current.is_writeable(1)
        await eventually(lambda: 7 in fixture.view.current.observed)
        assert fixture.view.current.observed[7].state is Observed.UNREACHABLE
        await fixture.monitor.stop()
    for writer in opened:
        writer.close()
    silent.close()
    await silent.wait_closed()


@pytest.mark.parametrize("hung", [1, 2])
async def test_a_hanging_disk_is_unreachable_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hung: int) -> None:
    """A disk that does not respond is unreachable; its host's other disks, with lower and higher numbers, are not."""
    back = threading.Event()
    read = Devices.open

    def read_unless_hung(devices: Devices, path: str) -> OpenFile:
        if path.startswith(f"/dev{hung}/"):
            back.wait(60)
        return read(devices, path)

    async with workers_fixture(tmp_path, {"h1": [1, 2, 3]}) as fixture:
        monkeypatch.setattr(Devices, "open", read_unless_hung)
        try:
            await fixture.view.renew()
            assert fixture.view.current.observed[hung].state is Observed.UNREACHABLE
            assert all(fixture.view.current.is_writeable(devid) for devid in {1, 2, 3} - {hung})
        finally:
            back.set()
        await fixture.view.renew()
        assert fixture.view.current.is_writeable(hung)


async def test_requested_rounds_see_committed_changes(tmp_path: Path) -> None:
    """A refreshed view has what was committed before the call, however many callers there are."""
    async with workers_fixture(tmp_path, {"h1": [1]}) as fixture:
        await fixture.metadata.write(rows.create_domain, "more")
        await asyncio.gather(*(fixture.view.renew() for _ in range(20)))
        assert "more" in fixture.view.current.domains


@pytest.mark.parametrize("port", [7777, None])
async def test_utilization_comes_from_the_side_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int | None
) -> None:
    """The utilization of disks is read from each host's side channel; without a port no host is connected to."""
    watched: list[tuple[str, int]] = []

    async def watch(_: NodeClient, host: str, side_channel_port: int) -> AsyncIterator[dict[int, float | None]]:
        watched.append((host, side_channel_port))
        yield {1: 42.0}
        await asyncio.Event().wait()

    monkeypatch.setattr(NodeClient, "watch", watch)
    async with workers_fixture(tmp_path, {"h1": [1]}, look=False) as fixture:
        monitor = Monitor(fixture.view, fixture.metadata, fixture.nodes, side_channel_port=port)
        await monitor.start()
        await fixture.view.wait_observed()
        if port is not None:
            await eventually(lambda: watched)
            await fixture.view.renew()
        assert fixture.view.current.observed[1].utilization == (None if port is None else 42.0)
        assert watched == ([] if port is None else [("127.0.0.1", port)])
        await monitor.stop()
