"""A dry run reports what the removal then does, including each refusal, and changes nothing; on every engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from tawara.metadata import cluster, files, removal, replicas
from tawara.metadata.contract import Metadata, Row, Transaction
from tawara.model import errors
from tawara.model import removal as model
from tawara.model.cluster import DeviceState, HostState
from tawara.model.files import NewFile
from tawara.model.removal import Removal

_TABLES = ("domain", "class", "host", "device", "file", "tempfile", "file_on", "tawara_copy")


async def _everything(tx: Transaction) -> dict[str, list[Row]]:
    counts = {table: await tx.rows(f'SELECT COUNT(*) FROM "{table}"') for table in _TABLES}
    return counts | {"states": await tx.rows("SELECT devid, status FROM device ORDER BY devid")}


async def set_up(metadata: Metadata) -> None:
    """Domains, classes, hosts and devices: empty ones and full ones."""
    for name in ("empty", "with files", "with classes", "with an upload"):
        await metadata.write(cluster.create_domain, name)
    for name in ("empty", "full"):
        await metadata.write(cluster.create_class, "with classes", name, mindevcount=1)
    for name in ("bare", "one"):
        await metadata.write(cluster.create_host, name, ip=f"10.0.0.{len(name)}", state=HostState.ALIVE)
    hosts = (await metadata.read(cluster.load)).hosts_by_name
    for devid in (1, 2, 3, 4):
        await metadata.write(cluster.create_device, devid, hosts["one"].hostid)
    domains = (await metadata.read(cluster.load)).domains
    full = domains["with classes"].class_named("full")
    assert full is not None
    for dmid, classid in ((domains["with files"].dmid, 0), (domains["with classes"].dmid, full.classid)):
        fid = await metadata.write(files.open_upload, dmid=dmid, key=b"k\xff", classid=classid, devids=(1, 2), now=1)
        await metadata.write(
            files.close_upload,
            NewFile(fid=fid, dmid=dmid, key=b"k\xff", classid=classid, length=1, devids=(1, 2)),
            now=1,
        )
    upload = domains["with an upload"]
    await metadata.write(files.open_upload, dmid=upload.dmid, key=b"u", classid=0, devids=(1,), now=1)
    for devid in (2, 3, 4):
        await metadata.write(cluster.set_device_state, "one", devid, DeviceState.DEAD)
    await metadata.write(replicas.reserve_copy, 99, 3, now=1)


async def _domain(tx: Transaction, name: str) -> Removal:
    return model.of_domain(await removal.domain(tx, name))


async def _class(tx: Transaction, domain: str, name: str) -> Removal:
    return model.of_class(await removal.storage_class(tx, domain, name))


async def _host(tx: Transaction, name: str) -> Removal:
    return model.of_host(await removal.host(tx, name))


async def _device(tx: Transaction, devid: int) -> Removal:
    return model.of_device(await removal.device(tx, devid))


Question = Callable[..., Awaitable[Removal]]


@pytest.mark.parametrize(
    ("look", "remove", "names", "outcome", "words"),
    [
        (_domain, cluster.delete_domain, ("empty",), None, "which is empty, would be removed"),
        (_domain, cluster.delete_domain, ("with files",), errors.DomainHasFiles, "has 1 file, for example 'k\ufffd'"),
        (_domain, cluster.delete_domain, ("with classes",), errors.DomainHasFiles, "has 1 file"),
        (_domain, cluster.delete_domain, ("with an upload",), None, "1 upload into it"),
        (_domain, cluster.delete_domain, ("none",), errors.DomainNotFound, ""),
        (_class, cluster.delete_class, ("with classes", "empty"), None, "which has no files, would be removed"),
        (_class, cluster.delete_class, ("with classes", "full"), errors.ClassHasFiles, "has 1 file"),
        (_class, cluster.delete_class, ("with classes", "default"), errors.NodelDefaultClass, "goes with it"),
        (_class, cluster.delete_class, ("with classes", "none"), errors.ClassNotFound, ""),
        (_class, cluster.delete_class, ("none", "full"), errors.DomainNotFound, ""),
        (_host, cluster.delete_host, ("bare",), None, "which has no devices, would be removed"),
        (_host, cluster.delete_host, ("one",), errors.HostNotEmpty, "dev1 (alive), dev2 (dead), dev3 (dead) and dev4"),
        (_host, cluster.delete_host, ("none",), errors.UnknownHost, ""),
        (_device, removal.delete_device, (1,), errors.DeviceInUse, "dev1 on one is alive, and has 2 copies"),
        (_device, removal.delete_device, (2,), errors.DeviceInUse, "2 copies on it are not replaced yet"),
        (_device, removal.delete_device, (3,), errors.DeviceInUse, "1 copy on it"),
        (_device, removal.delete_device, (4,), None, "of which nothing is left, would be removed"),
        (_device, removal.delete_device, (5,), errors.NoDevice, ""),
    ],
)
async def test_a_dry_run_is_exact(
    metadata: Metadata,
    look: Question,
    remove: Callable[..., Awaitable[None]],
    names: tuple[object, ...],
    outcome: type[errors.TawaraError] | None,
    words: str,
) -> None:
    """What would be refused is refused with the same error, what would be done is done, and the dry run does
    nothing."""
    await set_up(metadata)
    before = await metadata.read(_everything)
    if outcome is not None and issubclass(outcome, errors.NotFoundError):
        with pytest.raises(outcome):
            await metadata.read(look, *names)
    else:
        found = await metadata.read(look, *names)
        assert found.refusal is outcome
        assert words in "; ".join(found.sentences)
    assert await metadata.read(_everything) == before
    if outcome is None:
        await metadata.write(remove, *names)
        assert await metadata.read(_everything) != before
    else:
        with pytest.raises(outcome):
            await metadata.write(remove, *names)
        assert await metadata.read(_everything) == before


async def test_a_domain_with_only_classes(metadata: Metadata) -> None:
    """The error for a domain without files that has its own classes names them."""
    await metadata.write(cluster.create_domain, "d")
    for name in ("b", "a"):
        await metadata.write(cluster.create_class, "d", name, mindevcount=1)
    found = await metadata.read(_domain, "d")
    assert found.refusal is errors.DomainHasClasses
    assert "a and b" in found.sentences[0]
    with pytest.raises(errors.DomainHasClasses):
        await metadata.write(cluster.delete_domain, "d")
