"""Lists the contents of a domain, class, host or device before its removal, and removes devices.

Each function is one transaction. Counts are capped at `model.removal.MOST`, so that a dry run costs little.
"""

from __future__ import annotations

from typing import Final

from tawara.metadata.contract import Transaction
from tawara.metadata.visibility import visible
from tawara.model import errors
from tawara.model.cluster import DEFAULT_CLASS, DeviceState
from tawara.model.removal import MOST, ClassFacts, DeviceFacts, DomainFacts, HostFacts, of_device

_MULTIPART: Final = ("tawara_multipart", "state IN ('open', 'joining') AND dmid = ?")


async def _count(tx: Transaction, table: str, condition: str, *values: object) -> int:
    row = await tx.row(f"SELECT COUNT(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT {MOST}) s", *values)
    return row[0] if row else 0


async def _dmid(tx: Transaction, domain: str) -> int:
    row = await tx.row("SELECT dmid FROM domain WHERE namespace = ?", domain)
    if row is None:
        raise errors.DomainNotFound
    dmid: int = row[0]
    return dmid


async def domain(tx: Transaction, name: str) -> DomainFacts:
    """Return the contents of a domain. Raises DomainNotFound."""
    dmid = await _dmid(tx, name)
    classes = await tx.rows("SELECT classname FROM class WHERE dmid = ? AND classid <> 0 ORDER BY classname", dmid)
    column = tx.dialect.key_column("dkey")
    condition, values = visible(tx.dialect, "dkey")
    example = await tx.row(f"SELECT {column} FROM file WHERE dmid = ? AND {condition} LIMIT 1", dmid, *values)
    return DomainFacts(
        name,
        await _count(tx, "file", f"dmid = ? AND {condition}", dmid, *values),
        await _count(tx, "tempfile", "dmid = ?", dmid) + await _count(tx, *_MULTIPART, dmid),
        tuple(row[0] for row in classes),
        bytes(example[0]) if example else None,
    )


async def storage_class(tx: Transaction, domain: str, name: str) -> ClassFacts:
    """Return the contents of a class. Raises DomainNotFound, ClassNotFound."""
    dmid = await _dmid(tx, domain)
    row = await tx.row("SELECT classid FROM class WHERE dmid = ? AND classname = ?", dmid, name)
    if row is None and name != DEFAULT_CLASS:
        raise errors.ClassNotFound
    classid = row[0] if row else 0
    condition, values = visible(tx.dialect, "dkey")
    return ClassFacts(
        domain,
        name,
        await _count(tx, "file", f"dmid = ? AND classid = ? AND {condition}", dmid, classid, *values),
        await _count(tx, "tempfile", "dmid = ? AND classid = ?", dmid, classid)
        + await _count(tx, _MULTIPART[0], f"{_MULTIPART[1]} AND classid = ?", dmid, classid),
    )


async def host(tx: Transaction, name: str) -> HostFacts:
    """Return the contents of a host. Raises UnknownHost."""
    row = await tx.row("SELECT hostid FROM host WHERE hostname = ?", name)
    if row is None:
        raise errors.UnknownHost
    devices = await tx.rows("SELECT devid, status FROM device WHERE hostid = ?", row[0])
    return HostFacts(name, {devid: DeviceState(status) for devid, status in devices})


async def device(tx: Transaction, devid: int) -> DeviceFacts:
    """Return the contents of a device. Raises NoDevice."""
    row = await tx.row(
        "SELECT h.hostname, d.status FROM device d LEFT JOIN host h ON h.hostid = d.hostid WHERE d.devid = ?", devid
    )
    if row is None:
        raise errors.NoDevice
    return DeviceFacts(
        devid,
        row[0] or "?",
        DeviceState(row[1]),
        await _count(tx, "file_on", "devid = ?", devid),
        await _count(tx, "tawara_copy", "devid = ?", devid),
    )


async def delete_device(tx: Transaction, devid: int) -> None:
    """Remove a device that is dead and empty. Raises NoDevice, DeviceInUse with the reason."""
    await tx.row(f"SELECT status FROM device WHERE devid = ?{tx.dialect.for_update}", devid)
    removal = of_device(await device(tx, devid))
    if removal.refusal is not None:
        raise removal.refusal("; ".join(removal.sentences))
    for table in ("device", "tawara_absent", "tawara_device"):
        await tx.run(f"DELETE FROM {table} WHERE devid = ?", devid)
