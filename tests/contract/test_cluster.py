"""The promises of each transaction of `metadata.cluster`, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tawara.metadata import cluster, files
from tawara.metadata.contract import Metadata
from tawara.model import errors
from tawara.model.cluster import Device, DeviceState, HashType, Host, HostState, StorageClass
from tawara.model.files import NewFile

Opener = Callable[[], Awaitable[Metadata]]


async def test_a_domain_and_its_classes(metadata: Metadata) -> None:
    """Domains and classes are loaded as they were created; every domain has a default class, classid 0."""
    dmid = await metadata.write(cluster.create_domain, "D")
    other = await metadata.write(cluster.create_domain, "d")
    assert dmid != other
    classid = await metadata.write(
        cluster.create_class, "D", "c", mindevcount=3, replpolicy="MultipleNetworks()", hashtype=HashType.SHA1
    )
    loaded = await metadata.read(cluster.load, default_mindevcount=5)
    assert loaded.domains["D"].dmid == dmid
    assert loaded.domains["D"].classes == {
        0: StorageClass(0, "default", 5),
        classid: StorageClass(classid, "c", 3, "MultipleNetworks()", HashType.SHA1),
    }
    assert loaded.domains["d"].classes == {0: StorageClass(0, "default", 5)}


async def test_a_domain_is_removed_when_empty(metadata: Metadata) -> None:
    """A domain with files or classes is kept, each refused with its own error; an empty one is removed."""
    dmid = await metadata.write(cluster.create_domain, "d")
    with pytest.raises(errors.DomainExists):
        await metadata.write(cluster.create_domain, "d")
    await metadata.write(cluster.create_class, "d", "c", mindevcount=2)
    with pytest.raises(errors.DomainHasClasses):
        await metadata.write(cluster.delete_domain, "d")
    fid = await metadata.write(files.open_upload, dmid=dmid, key=b"k", classid=1, devids=(1,), now=1)
    await metadata.write(
        files.close_upload, NewFile(fid=fid, dmid=dmid, key=b"k", classid=1, length=1, devids=(1,)), now=1
    )
    with pytest.raises(errors.DomainHasFiles):
        await metadata.write(cluster.delete_domain, "d")
    with pytest.raises(errors.ClassHasFiles):
        await metadata.write(cluster.delete_class, "d", "c")
    await metadata.write(files.delete, dmid, b"k", now=1)
    await metadata.write(cluster.delete_class, "d", "c")
    await metadata.write(cluster.update_class, "d", "default", mindevcount=4)
    await metadata.write(cluster.delete_domain, "d")
    with pytest.raises(errors.DomainNotFound):
        await metadata.write(cluster.delete_domain, "d")
    assert not (await metadata.read(cluster.load)).domains


async def test_changes_of_a_class(metadata: Metadata) -> None:
    """update_class changes only the given fields; it creates the class `default`."""
    await metadata.write(cluster.create_domain, "d")
    await metadata.write(cluster.create_class, "d", "c", mindevcount=2, hashtype=HashType.CRC64NVME)
    with pytest.raises(errors.ClassExists):
        await metadata.write(cluster.create_class, "d", "c", mindevcount=2)
    await metadata.write(cluster.update_class, "d", "c", replpolicy="MultipleDevices()")
    await metadata.write(cluster.update_class, "d", "default", mindevcount=3)
    classes = (await metadata.read(cluster.load)).domains["d"].classes
    assert classes[1] == StorageClass(1, "c", 2, "MultipleDevices()", HashType.CRC64NVME)
    assert classes[0].mindevcount == 3
    await metadata.write(cluster.update_class, "d", "c", mindevcount=4, clear_hashtype=True)
    assert (await metadata.read(cluster.load)).domains["d"].classes[1].hashtype is None
    with pytest.raises(errors.ClassNotFound):
        await metadata.write(cluster.update_class, "d", "none", mindevcount=1)
    with pytest.raises(errors.NodelDefaultClass):
        await metadata.write(cluster.delete_class, "d", "default")
    with pytest.raises(errors.DomainNotFound):
        await metadata.write(cluster.create_class, "none", "c", mindevcount=1)


async def test_hosts(metadata: Metadata) -> None:
    """Hosts are loaded as created and changed; names and addresses are unique."""
    hostid = await metadata.write(
        cluster.create_host, "h1", ip="10.0.0.1", http_port=7500, altip="10.1.0.1", altmask="10.1.0.0/16"
    )
    with pytest.raises(errors.HostExists):
        await metadata.write(cluster.create_host, "h1", ip="10.0.0.2", http_port=7500)
    for taken in ("10.0.0.1", "10.1.0.1"):
        with pytest.raises(errors.Dup):
            await metadata.write(cluster.create_host, "h2", ip=taken, http_port=7500)
    await metadata.write(cluster.update_host, "h1", state=HostState.ALIVE, http_get_port=7600)
    loaded = await metadata.read(cluster.load)
    assert loaded.hosts[hostid] == Host(
        hostid, "h1", HostState.ALIVE, "10.0.0.1", 7500, 7600, "10.1.0.1", "10.1.0.0/16"
    )
    with pytest.raises(errors.HostNotFound):
        await metadata.write(cluster.update_host, "none", http_port=1)
    await metadata.write(cluster.create_device, 1, hostid)
    with pytest.raises(errors.HostNotEmpty):
        await metadata.write(cluster.delete_host, "h1")
    with pytest.raises(errors.UnknownHost):
        await metadata.write(cluster.delete_host, "none")


async def test_devices(metadata: Metadata) -> None:
    """Devices are loaded as created and changed; a dead one stays dead."""
    hostid = await metadata.write(cluster.create_host, "h1", ip="10.0.0.1", http_port=7500)
    await metadata.write(cluster.create_host, "h2", ip="10.0.0.2", http_port=7500)
    await metadata.write(cluster.create_device, 70000, hostid)
    with pytest.raises(errors.ExistingDevid):
        await metadata.write(cluster.create_device, 70000, hostid)
    with pytest.raises(errors.UnknownHostid):
        await metadata.write(cluster.create_device, 2, hostid + 100)
    await metadata.write(cluster.set_device_weight, "h1", 70000, 55)
    await metadata.write(cluster.record_usage, {70000: (2**40, 2**39), 12345: (1, 1)}, now=99)
    loaded = await metadata.read(cluster.load)
    assert loaded.devices == {70000: Device(70000, hostid, DeviceState.ALIVE, 55, 2**40, 2**39, 99)}
    await metadata.write(cluster.set_device_state, "h1", 70000, DeviceState.DEAD)
    with pytest.raises(errors.StateTooHigh):
        await metadata.write(cluster.set_device_state, "h1", 70000, DeviceState.ALIVE)
    with pytest.raises(errors.HostMismatch):
        await metadata.write(cluster.set_device_state, "h2", 70000, DeviceState.DOWN)
    with pytest.raises(errors.NoDevice):
        await metadata.write(cluster.set_device_weight, "h1", 1, 55)


async def test_settings(metadata: Metadata) -> None:
    """A setting has its last value; None removes it."""
    for value in ("1", "", "x" * 60_000):
        await metadata.write(cluster.set_setting, "f", value)
        assert await metadata.read(cluster.get_setting, "f") == value
    assert (await metadata.read(cluster.load)).settings["f"] == "x" * 60_000
    await metadata.write(cluster.set_setting, "f", None)
    assert await metadata.read(cluster.get_setting, "f") is None


async def test_concurrent_creations_do_not_collide(metadata: Metadata, opener: Opener) -> None:
    """Domains, classes, hosts and devices created at once on two trackers get different numbers."""
    trackers = [metadata, await opener()]
    dmids = await asyncio.gather(*(trackers[n % 2].write(cluster.create_domain, f"d{n}") for n in range(12)))
    classids = await asyncio.gather(
        *(trackers[n % 2].write(cluster.create_class, "d0", f"c{n}", mindevcount=1) for n in range(12))
    )
    hostids = await asyncio.gather(
        *(trackers[n % 2].write(cluster.create_host, f"h{n}", ip=f"10.0.0.{n}", http_port=1) for n in range(12))
    )
    assert len(set(dmids)) == len(set(classids)) == len(set(hostids)) == 12
    loaded = await metadata.read(cluster.load)
    assert {domain.dmid for domain in loaded.domains.values()} == set(dmids)
    assert set(loaded.hosts) == set(hostids)


@pytest.mark.parametrize("make", ["domain", "class", "host", "device"])
async def test_names_are_unique(metadata: Metadata, opener: Opener, make: str) -> None:
    """Of several concurrent creations of one name one succeeds, and the others get an error that it exists."""
    trackers = [metadata, await opener()]
    await metadata.write(cluster.create_domain, "d")
    hostid = await metadata.write(cluster.create_host, "h", ip="10.0.0.1", http_port=1)

    async def once(tracker: Metadata) -> object:
        if make == "domain":
            return await tracker.write(cluster.create_domain, "new")
        if make == "class":
            return await tracker.write(cluster.create_class, "d", "new", mindevcount=1)
        if make == "host":
            return await tracker.write(cluster.create_host, "new", ip="10.0.0.9", http_port=1)
        return await tracker.write(cluster.create_device, 5, hostid)

    told = await asyncio.gather(*(once(trackers[n % 2]) for n in range(10)), return_exceptions=True)
    exists = (errors.DomainExists, errors.ClassExists, errors.HostExists, errors.ExistingDevid)
    assert sum(isinstance(each, exists) for each in told) == 9
    assert sum(not isinstance(each, BaseException) for each in told) == 1


async def test_a_host_is_not_removed_under_a_new_device(metadata: Metadata, opener: Opener) -> None:
    """Concurrently removing a host and creating a device on it never leaves a device without a host."""
    other = await opener()
    for number in range(15):
        hostid = await metadata.write(cluster.create_host, f"h{number}", ip=f"10.0.0.{number}", http_port=1)
        await asyncio.gather(
            metadata.write(cluster.delete_host, f"h{number}"),
            other.write(cluster.create_device, number + 1, hostid),
            return_exceptions=True,
        )
        loaded = await metadata.read(cluster.load)
        assert all(device.hostid in loaded.hosts for device in loaded.devices.values())
