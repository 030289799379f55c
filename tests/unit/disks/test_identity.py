"""The identity file of a device: a disk that is not the expected one is neither written nor read."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from tawara.disks.devices import Devices
from tawara.disks.identity import RECORDS
from tawara.model.node_errors import ForeignDisk, IdentityLost, Reserved
from tawara.node import usage
from tawara.wire import identity

FILE = "/dev1/0/000/000/0000000001.fid"


@pytest.fixture
def docroot(tmp_path: Path) -> Path:
    """A document root with two empty devices."""
    for name in ("dev1", "dev2"):
        (tmp_path / name).mkdir()
    return tmp_path


def put(devices: Devices, path: str = FILE) -> None:
    with devices.receive(path) as incoming:
        incoming.write(b"a body")
        incoming.commit()


def id_of(docroot: Path, device: str = "dev1") -> str:
    shown = identity.parse((docroot / device / identity.FILE).read_bytes())
    assert shown
    return shown.id


def test_a_new_device_gets_its_own_identity(docroot: Path) -> None:
    """An empty device gets a file with its number and an id, keeps both, and reports the id in the usage file."""
    devices = Devices(docroot)
    usage.write(devices, "dev1", 1)
    told = (docroot / "dev1" / "usage").read_text()
    assert f"identity: {id_of(docroot)}\n" in told
    assert "holds: nothing\n" in told
    put(devices)
    put(Devices(docroot))
    usage.write(devices, "dev1", 2)
    told = (docroot / "dev1" / "usage").read_text()
    assert f"holds: files\nidentity: {id_of(docroot)}\n" in told
    put(devices, FILE.replace("dev1", "dev2"))
    assert id_of(docroot, "dev2") != id_of(docroot)


def test_an_existing_device_gets_an_identity_once(docroot: Path) -> None:
    """A device with files gets an identity if none is recorded; afterwards a missing identity is an error."""
    (docroot / "dev1/0/000/000").mkdir(parents=True)
    (docroot / "dev1/0/000/000/0000000001.fid").write_bytes(b"old")
    devices = Devices(docroot)
    assert devices.size(FILE) == 3
    assert id_of(docroot)
    (docroot / "dev1" / identity.FILE).unlink()
    with pytest.raises(IdentityLost):
        devices.size(FILE)


def test_an_empty_mount_point_is_not_written(docroot: Path) -> None:
    """If the disk is missing, nothing is written to its empty mount point; the disk may return."""
    devices = Devices(docroot)
    put(devices)
    (docroot / "dev1").rename(docroot / "away")
    (docroot / "dev1").mkdir()
    for node in (devices, Devices(docroot)):
        for attempt in (
            lambda node=node: put(node),
            lambda node=node: node.make_directory("/dev1/0/000"),
            lambda node=node: usage.write(node, "dev1", 1),
            lambda node=node: node.size(FILE),
            lambda node=node: node.sweep("dev1"),
        ):
            with pytest.raises(IdentityLost):
                attempt()
    assert list((docroot / "dev1").iterdir()) == []
    (docroot / "dev1").rmdir()
    (docroot / "away").rename(docroot / "dev1")
    assert devices.size(FILE) == 6


def test_swapped_disks(docroot: Path) -> None:
    """Two swapped disks are refused, and so is a disk with the right number and another id."""
    devices = Devices(docroot)
    put(devices)
    put(devices, FILE.replace("dev1", "dev2"))
    (docroot / "dev1").rename(docroot / "away")
    (docroot / "dev2").rename(docroot / "dev1")
    (docroot / "away").rename(docroot / "dev2")
    for path in (FILE, FILE.replace("dev1", "dev2")):
        with pytest.raises(ForeignDisk, match="This is the disk of"):
            put(devices, path)
    shutil.rmtree(docroot / "dev1")
    (docroot / "dev1").mkdir()
    (docroot / "dev1" / identity.FILE).write_bytes(identity.render(identity.Identity("dev1", "0" * 36)))
    with pytest.raises(ForeignDisk, match="another identity"):
        put(devices)


def test_a_removed_record_is_forgotten(docroot: Path) -> None:
    """After its record is removed from the document root, the directory is taken as a new device."""
    devices = Devices(docroot)
    put(devices)
    before = id_of(docroot)
    shutil.rmtree(docroot / "dev1")
    (docroot / "dev1").mkdir()
    (docroot / RECORDS / "dev1").unlink()
    put(devices)
    assert id_of(docroot) != before


def test_clients_cannot_change_it(docroot: Path) -> None:
    """Clients can read the identity file, but neither write nor delete it."""
    devices = Devices(docroot)
    put(devices)
    path = f"/dev1/{identity.FILE}"
    assert devices.size(path) > 0
    with pytest.raises(Reserved):
        put(devices, path)


def test_concurrent_creation_agrees(docroot: Path) -> None:
    """Threads and processes that see a new device at the same time give it one identity."""
    nodes = [Devices(docroot) for _ in range(8)]
    ready = threading.Barrier(len(nodes))

    def first(node: Devices) -> None:
        ready.wait()
        node.usage("dev1")

    threads = [threading.Thread(target=first, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {node.identities.id_of("dev1") for node in nodes} == {id_of(docroot)}
    assert (docroot / RECORDS / "dev1").read_text().split()[0] == id_of(docroot)
    assert list((docroot / "dev1/~incoming").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_disk_mounted_over_a_directory_is_a_new_device(docroot: Path) -> None:
    """If a directory got an id before its disk was mounted, the disk gets its own id."""
    if os.system(f"mount -t tmpfs tawara-test {docroot}/dev2 2>/dev/null") != 0:
        pytest.skip("this machine does not allow mounts")
    os.system(f"umount {docroot}/dev2")
    devices = Devices(docroot)
    devices.usage("dev1")
    before = id_of(docroot)
    assert os.system(f"mount -t tmpfs tawara-test {docroot}/dev1") == 0
    try:
        put(devices)
        assert id_of(docroot) != before
    finally:
        os.system(f"umount {docroot}/dev1")
    with pytest.raises(ForeignDisk):
        put(devices)
