"""Where nginx reads the replicas of a file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.model import fid as fids
from tawara.model.files import StoredFile
from tawara.model.node_errors import DeviceFailed, DeviceHangs, NoSuchDevice
from tawara.store.local_devices import LocalDevices
from tests.unit.store import fake_store

FILE = StoredFile(fid=7, dmid=1, key=b"k", length=10, classid=0, devcount=3, devids=(1, 2, 3))
CLUSTER = fake_store.cluster(3)


class _Local:
    """Local devices with a size, or an error, of the file on each."""

    def __init__(self, sizes: Mapping[int, int | Exception]) -> None:
        self.sizes = sizes
        self.asked: list[int] = []

    def cached_size(self, devid: int, path: str, identities: Mapping[int, str]) -> int | None:
        return None

    async def has(self, devid: int) -> bool:
        return devid in self.sizes

    async def size(self, devid: int, path: str, identities: Mapping[int, str]) -> int:
        self.asked.append(devid)
        size = self.sizes[devid]
        if isinstance(size, Exception):
            raise size
        return size


def _remote(devid: int) -> tuple[str, str | None]:
    return fids.path(devid, 7), f"10.0.0.{devid}:7500"


def _here(devid: int) -> tuple[str, str | None]:
    return fids.path(devid, 7), None


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (None, [_remote(1), _remote(2), _remote(3)]),
        ({2: 10}, [_remote(1), _here(2), _remote(3)]),
        ({1: 10, 2: 10}, [_here(1), _remote(2), _remote(3)]),
        ({1: 9, 2: 10}, [_here(2), _remote(3)]),
        ({1: 11}, [_remote(2), _remote(3)]),
        ({1: DeviceHangs()}, [_remote(2), _remote(3)]),
        ({1: NoSuchDevice()}, [_remote(1), _remote(2), _remote(3)]),
        ({1: DeviceFailed(), 2: 10}, [_remote(1), _here(2), _remote(3)]),
    ],
)
async def test_a_local_replica_is_sent_if_it_is_whole(
    sizes: Mapping[int, int | Exception] | None, expected: list[tuple[str, str | None]]
) -> None:
    """One whole local file is sent; a damaged or silent one is skipped; one that cannot be read here is remote."""
    local = None if sizes is None else cast("LocalDevices", _Local(sizes))
    found = await NginxReplicas(local).of(CLUSTER, FILE, (1, 2, 3))
    assert [(each.path, each.host) for each in found] == expected


@pytest.mark.parametrize(
    ("ip", "address"), [("10.0.0.1", "10.0.0.1:7500"), ("::1", "[::1]:7500"), ("named", "192.0.2.9:7500")]
)
async def test_hosts_are_named_by_address(monkeypatch: pytest.MonkeyPatch, ip: str, address: str) -> None:
    """nginx gets an address and a port, with a name resolved and IPv6 in brackets."""

    async def resolve(host: str, port: int, **_: object) -> list[Any]:
        return [(None, None, None, "", ("192.0.2.9", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    cluster = replace(CLUSTER, hosts={1: replace(CLUSTER.hosts[1], ip=ip)})
    (found,) = await NginxReplicas(None).of(cluster, FILE, (1,))
    assert found.host == address


async def test_a_host_that_cannot_be_resolved_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose name does not resolve, and a device that is unknown, are no replica for nginx."""

    async def resolve(*_: object, **__: object) -> list[Any]:
        raise OSError("no such host")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    cluster = replace(CLUSTER, hosts={**CLUSTER.hosts, 1: replace(CLUSTER.hosts[1], ip="named")})
    found = await NginxReplicas(None).of(cluster, FILE, (1, 2, 99))
    assert [(each.path, each.host) for each in found] == [_remote(2)]


async def test_a_cached_size_is_not_looked_up() -> None:
    """A replica whose cached size is right is sent without a further check, and another size is looked up."""
    local = _Local({1: 10})
    local.cached_size = lambda *_: 10  # type: ignore[method-assign]
    replicas = NginxReplicas(cast(LocalDevices, local))
    found = await replicas.of(CLUSTER, FILE, [1, 2])
    assert ([(each.path, each.host) for each in found], local.asked) == ([_here(1), _remote(2)], [])
    local.cached_size = lambda *_: 9  # type: ignore[method-assign]
    await replicas.of(CLUSTER, FILE, [1, 2])
    assert local.asked == [1]
