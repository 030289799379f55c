"""Creating directories ahead of uploads, and caching where that is unnecessary."""

from __future__ import annotations

import asyncio

import pytest

from tawara.model.cluster import Cluster, Device, DeviceState, Host, HostState
from tawara.model.errors import NodeUnreachable
from tawara.tracker import directories
from tawara.tracker.directories import CACHE_SECONDS, Directories

CLUSTER = Cluster(
    hosts={hostid: Host(hostid, f"h{hostid}", HostState.ALIVE, f"10.0.0.{hostid}") for hostid in (1, 2)},
    devices={devid: Device(devid, (devid + 1) // 2, DeviceState.ALIVE) for devid in (1, 2, 3)},
)
FIRST = "http://10.0.0.1:7500/dev1/0/000/000/"


class Asked:
    """Nodes that accept, refuse or do not answer MKCOL; they record the requests; with a clock."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.refusing = False
        self.silent = False
        self.now = 0.0
        self.directories = Directories(clock=lambda: self.now)

    async def make_directory(self, url: str) -> bool:
        self.urls.append(url)
        if self.silent:
            raise NodeUnreachable
        return not self.refusing

    async def asked_for(self, fid: int, *devids: int) -> list[str]:
        """The directories that the nodes are asked to create now."""
        self.urls.clear()
        await self.directories.make(CLUSTER, fid, devids, self.make_directory)
        return sorted(self.urls)


async def test_a_directory_is_created_once_for_its_fids() -> None:
    """A thousand fids share one directory, which is requested once an hour."""
    asked = Asked()
    assert await asked.asked_for(1, 1, 3) == [FIRST, "http://10.0.0.2:7500/dev3/0/000/000/"]
    assert await asked.asked_for(999, 1, 3) == []
    assert await asked.asked_for(1000, 1) == ["http://10.0.0.1:7500/dev1/0/000/001/"]
    asked.now = CACHE_SECONDS + 1
    assert await asked.asked_for(999, 1) == [FIRST]


async def test_a_node_that_refuses_directories_is_skipped() -> None:
    """After one refusal no device of that host is asked again for an hour; other hosts are."""
    asked = Asked()
    asked.refusing = True
    assert await asked.asked_for(1, 1) == [FIRST]
    assert await asked.asked_for(5000, 1, 2, 3) == ["http://10.0.0.2:7500/dev3/0/000/005/"]
    asked.now = CACHE_SECONDS + 1
    asked.refusing = False
    assert await asked.asked_for(1, 1) == [FIRST]


async def test_a_node_that_does_not_respond_is_asked_again() -> None:
    """A missing response is not cached, and is no error of the upload."""
    asked = Asked()
    asked.silent = True
    assert await asked.asked_for(1, 1) == [FIRST]
    assert await asked.asked_for(1, 1) == [FIRST]


async def test_all_nodes_are_asked_concurrently() -> None:
    """The slowest node determines the time, not the sum of all."""
    batched = asyncio.Barrier(3)

    async def make_directory(url: str) -> bool:
        async with asyncio.timeout(5):
            await batched.wait()
        return True

    await Directories().make(CLUSTER, 1, (1, 2, 3), make_directory)


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of directories the cache is emptied, which costs only further requests."""
    monkeypatch.setattr(directories, "MOST_CACHED", 2)
    asked = Asked()
    for fid in (1, 1000, 2000):
        await asked.asked_for(fid, 1)
    assert await asked.asked_for(2000, 1) == []
    assert await asked.asked_for(1, 1) == [FIRST]


async def test_unknown_devices_are_skipped() -> None:
    """A device that was removed a moment ago causes no error."""
    assert await Asked().asked_for(1, 99) == []
