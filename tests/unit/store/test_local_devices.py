"""This machine's devices, read and written without a storage node."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tawara.disks.devices import Devices
from tawara.model import fid as fids
from tawara.model.node_errors import DeviceHangs, ForeignDisk, NoSuchDevice, NoSuchFile
from tawara.store import local_devices
from tawara.store.local_devices import LocalDevices

PATH = fids.path(1, 7)


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    """One device with the file 7 of three bytes."""
    path = tmp_path / PATH[1:]
    path.parent.mkdir(parents=True)
    path.write_bytes(b"abc")
    made = Devices(tmp_path)
    made.usage("dev1")  # now it has its identity
    return made


def _local(devices: Devices, **options: Any) -> LocalDevices:
    return LocalDevices(devices, **({"timeout": 20} | options))


@pytest.mark.parametrize("only_known", [False, True])
async def test_a_size_needs_the_right_disk(devices: Devices, only_known: bool) -> None:
    """A file has a size on the disk that the database means, or on an unknown one, unless only known ones count."""
    local = _local(devices, only_known=only_known)
    own = devices.identities.id_of("dev1")
    assert own
    assert await local.size(1, PATH, {1: own}) == 3
    if only_known:
        with pytest.raises(NoSuchDevice):
            await local.size(1, PATH, {})
    else:
        assert await local.size(1, PATH, {}) == 3
    with pytest.raises(ForeignDisk):
        await local.size(1, PATH, {1: "other"})
    with pytest.raises(NoSuchFile):
        await local.size(1, fids.path(1, 8), {1: own})
    assert local.writeable is not only_known
    await local.close()


async def test_a_size_is_remembered_for_a_second(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """A size is looked up once within its time, and again later, or when the database means another disk."""
    now = [100.0]
    monkeypatch.setattr(local_devices, "time", SimpleNamespace(monotonic=lambda: now[0]))
    local = _local(devices)
    own = devices.identities.id_of("dev1") or ""
    assert await local.size(1, PATH, {1: own}) == 3
    (devices.docroot / PATH[1:]).write_bytes(b"abcd")
    now[0] += local_devices._CHECKED_FOR - 0.1
    assert await local.size(1, PATH, {1: own}) == 3
    with pytest.raises(ForeignDisk):
        await local.size(1, PATH, {1: "other"})
    now[0] += 0.1
    assert await local.size(1, PATH, {1: own}) == 4
    await local.close()


async def test_remembered_sizes_are_bounded(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many sizes all are forgotten."""
    monkeypatch.setattr(local_devices, "_CHECKED", 2)
    local = _local(devices)
    for fid in (8, 9):
        (devices.docroot / fids.relative_path(fid)).parent.mkdir(parents=True, exist_ok=True)
        (devices.docroot / fids.path(1, fid)[1:]).write_bytes(b"x")
    for fid, remembered in ((7, 1), (8, 2), (9, 1)):
        await local.size(1, fids.path(1, fid), {})
        assert len(local._checked) == remembered
    await local.close()


async def test_a_hanging_device_is_skipped(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that does not answer in time raises DeviceHangs, and the caller does not wait for it."""
    go_on = threading.Event()

    def hang(_: Devices, path: str) -> int:
        go_on.wait(60)
        return 1

    monkeypatch.setattr(Devices, "size", hang)
    local = _local(devices, timeout=0.02)
    try:
        with pytest.raises(DeviceHangs):
            await local.size(1, PATH, {})
    finally:
        go_on.set()
        await local.close()


async def test_devices_are_listed_now_and_then(devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of devices is read again after its time, and not before."""
    now = [100.0]
    monkeypatch.setattr(local_devices, "time", SimpleNamespace(monotonic=lambda: now[0]))
    local = _local(devices)
    assert [await local.has(devid) for devid in (1, 2)] == [True, False]
    (devices.docroot / "dev2").mkdir()
    now[0] += local_devices._LISTED_FOR - 0.1
    assert not await local.has(2)
    now[0] += 0.1
    assert await local.has(2)
    await local.close()


@pytest.mark.parametrize("link", [True, False])
async def test_bodies_are_stored(devices: Devices, tmp_path: Path, link: bool) -> None:
    """A received file is stored as a link or a copy, a small body with its bytes."""
    local = _local(devices)
    source = tmp_path / "received"
    source.write_bytes(b"body")
    await local.store(1, fids.path(1, 10), source, link=link)
    stored = tmp_path / fids.path(1, 10)[1:]
    assert stored.read_bytes() == b"body"
    assert stored.samefile(source) is link
    await local.store_small(1, fids.path(1, 11), b"small")
    assert (tmp_path / fids.path(1, 11)[1:]).read_bytes() == b"small"
    await local.close()
