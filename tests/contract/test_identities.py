"""The recorded identities of devices, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tawara.metadata import cluster, identities
from tawara.metadata.contract import Metadata, Transaction
from tawara.model import errors
from tawara.model.cluster import HostState

Opener = Callable[[], Awaitable[Metadata]]
ONE, OTHER, THIRD = (letter * 36 for letter in "abc")


@pytest.fixture(autouse=True)
async def set_up(metadata: Metadata) -> None:
    """A host with three devices; dev1 has a file."""
    hostid = await metadata.write(cluster.create_host, "h1", ip="10.0.0.1", state=HostState.ALIVE)
    for devid in (1, 2, 3):
        await metadata.write(cluster.create_device, devid, hostid)
    await metadata.write(_run, "INSERT INTO file_on (fid, devid) VALUES (1, 1)")


async def _run(tx: Transaction, sql: str) -> None:
    await tx.run(sql)


async def known(metadata: Metadata) -> dict[int, str]:
    return dict((await metadata.read(cluster.load)).identities)


async def test_the_first_identity_is_recorded(metadata: Metadata) -> None:
    """A device has the identity that it showed first; another disk in its place is refused, and not recorded."""
    assert await metadata.write(identities.check_identity, 1, ONE, empty=False) is None
    assert await metadata.write(identities.check_identity, 1, ONE, empty=True) is None
    trouble = await metadata.write(identities.check_identity, 1, OTHER, empty=False)
    assert trouble is not None
    assert "another disk than before" in trouble
    assert await known(metadata) == {1: ONE}


async def test_an_empty_disk_with_recorded_files_is_refused(metadata: Metadata) -> None:
    """An identity created on an empty mount point is refused if files are recorded; on a new device it is not."""
    trouble = await metadata.write(identities.check_identity, 1, ONE, empty=True)
    assert trouble is not None
    assert "is its disk mounted?" in trouble
    assert await metadata.write(identities.check_identity, 2, OTHER, empty=True) is None
    assert await known(metadata) == {2: OTHER}
    assert await metadata.write(identities.check_identity, 1, ONE, empty=False) is None


async def test_swapped_and_copied_disks(metadata: Metadata) -> None:
    """An identity belongs to one device."""
    await metadata.write(identities.check_identity, 1, ONE, empty=False)
    for devid in (2, 3):
        trouble = await metadata.write(identities.check_identity, devid, ONE, empty=False)
        assert trouble is not None
        assert "the identity of dev1" in trouble


async def test_an_operator_accepts_another_disk(metadata: Metadata) -> None:
    """After that the next identity of the device is recorded, empty or not, and expected from then on."""
    await metadata.write(identities.check_identity, 1, ONE, empty=False)
    await metadata.write(identities.accept, 1)
    assert await known(metadata) == {}
    assert await metadata.write(identities.check_identity, 1, OTHER, empty=True) is None
    assert await metadata.write(identities.check_identity, 1, ONE, empty=False) is not None
    assert await known(metadata) == {1: OTHER}
    with pytest.raises(errors.NoDevice):
        await metadata.write(identities.accept, 9)


async def test_concurrent_monitors_record_one_identity(metadata: Metadata, opener: Opener) -> None:
    """Monitors that see a device at the same time, and two disks, agree on one of them."""
    others = [await opener() for _ in range(3)]
    shown = (ONE, OTHER, THIRD)
    said = await asyncio.gather(
        *(each.write(identities.check_identity, 2, id_, empty=True) for each, id_ in zip(others, shown, strict=True))
    )
    assert said.count(None) == 1
    assert (await known(metadata))[2] == shown[said.index(None)]
