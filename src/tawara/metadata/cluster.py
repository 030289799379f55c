"""The cluster's configuration: domains, classes, hosts, devices and settings (tables of the same names).

Each function is one transaction; see `contract`. The tables are small, are read whole by `load`, and change only on an
administrator's command.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from tawara.metadata import multipart
from tawara.metadata.contract import Transaction
from tawara.metadata.visibility import visible
from tawara.model import errors
from tawara.model.cluster import (
    DEFAULT_CLASS,
    Cluster,
    Device,
    DeviceAbsence,
    DeviceState,
    Domain,
    HashType,
    Host,
    HostState,
    Liveness,
    StorageClass,
)
from tawara.model.fid import HIGHEST_ID

ACCEPTED = "tawara_accepted_devices"
"""Setting: devices accepted regardless of their cluster identity until they are marked with this cluster's."""
_OF_BUCKETS = ("tawara_bucket", "tawara_bucket_document")
ACCEPTING = "accept "
"""Prefix of the devid, stored in place of an identity that the operator has chosen to accept."""


async def load(tx: Transaction, *, min_free_mb: int = 100, default_mindevcount: int = 2) -> Cluster:
    """Return the configuration from one consistent snapshot, without observations.

    A domain without a row for the class `default` gets that class with `default_mindevcount`.
    """
    classes: dict[int, dict[int, StorageClass]] = {}
    for dmid, classid, name, mindevcount, replpolicy, hashtype in await tx.rows(
        "SELECT dmid, classid, classname, mindevcount, replpolicy, hashtype FROM class ORDER BY dmid, classid"
    ):
        each = StorageClass(classid, name, mindevcount, replpolicy or None, HashType(hashtype) if hashtype else None)
        classes.setdefault(dmid, {0: StorageClass(0, DEFAULT_CLASS, default_mindevcount)})[classid] = each
    domains = {
        name: Domain(dmid, name, classes.get(dmid, {0: StorageClass(0, DEFAULT_CLASS, default_mindevcount)}))
        for dmid, name in await tx.rows("SELECT dmid, namespace FROM domain ORDER BY dmid")
    }
    hosts = {
        row[0]: Host(row[0], row[1], HostState(row[2]), *row[3:])
        for row in await tx.rows(
            "SELECT hostid, hostname, status, hostip, http_port, http_get_port, altip, altmask FROM host"
            " ORDER BY hostid"
        )
    }
    devices = {
        row[0]: Device(row[0], row[1], DeviceState(row[2]), *row[3:])
        for row in await tx.rows(
            "SELECT devid, hostid, status, weight, mb_total, mb_used, mb_asof FROM device ORDER BY devid"
        )
    }
    absences = await _absences(tx)
    identities = await _identities(tx)
    settings = {field: value or "" for field, value in await tx.rows("SELECT field, value FROM server_settings")}
    return Cluster(domains, hosts, devices, settings, absences=absences, identities=identities, min_free_mb=min_free_mb)


async def _absences(tx: Transaction) -> dict[int, DeviceAbsence]:
    rows = await tx.rows("SELECT devid, standing, seconds, queue_pass, since FROM tawara_absent")
    return {row[0]: DeviceAbsence(Liveness(row[1]), row[2], row[3] is not None, row[4]) for row in rows}


async def _identities(tx: Transaction) -> dict[int, str]:
    rows = await tx.rows("SELECT devid, identity FROM tawara_device")
    return {devid: identity for devid, identity in rows if not identity.startswith(ACCEPTING)}


async def _next(tx: Transaction, column: str, table: str, condition: str = "", *values: object) -> int:
    """Return the highest number plus one.

    Returns the lowest free number if a rebuild or a backup brought the highest possible one.
    """
    row = await tx.row(f"SELECT MAX({column}) FROM {table} {condition}", *values)
    following: int = ((row[0] if row else None) or 0) + 1
    if following <= HIGHEST_ID:
        return following
    used = {row[0] for row in await tx.rows(f"SELECT {column} FROM {table} {condition}", *values)}
    return next(number for number in itertools.count(1) if number not in used)


_CHANGES = "tawara_changes"
"""Setting: counter of configuration changes, needed where row locks are local to a server (Galera)."""


async def serialise(tx: Transaction) -> None:
    """Serialise this change of the configuration, or of a run, with all others until commit; such changes are rare."""
    if tx.dialect.for_update:
        await tx.row(f"SELECT value FROM server_settings WHERE field = 'schema_version'{tx.dialect.for_update}")
    if tx.dialect.locks_are_local:
        # Every such transaction updates this row, so of two concurrent ones the second is refused and retried.
        await tx.run(tx.dialect.insert_or_ignore("server_settings", ("field", "value")), _CHANGES, "0")
        await tx.run("UPDATE server_settings SET value = value + 1 WHERE field = ?", _CHANGES)


# --- domains and classes ----------------------------------------------------------------------------------------------


async def _dmid(tx: Transaction, domain: str) -> int:
    row = await tx.row(f"SELECT dmid FROM domain WHERE namespace = ?{tx.dialect.for_update}", domain)
    if row is None:
        raise errors.DomainNotFound
    dmid: int = row[0]
    return dmid


async def create_domain(tx: Transaction, name: str) -> int:
    """Create a domain; return its dmid. Raises DomainExists."""
    await serialise(tx)
    if await tx.row("SELECT 1 FROM domain WHERE namespace = ?", name) is not None:
        raise errors.DomainExists
    dmid = await _next(tx, "dmid", "domain")
    for table in _OF_BUCKETS:  # mogilefsd, which may have removed the last domain, leaves these rows
        await tx.run(f"DELETE FROM {table} WHERE dmid = ?", dmid)
    await tx.run("INSERT INTO domain (dmid, namespace) VALUES (?, ?)", dmid, name)
    return dmid


async def delete_domain(tx: Transaction, name: str) -> None:
    """Remove an empty domain, with its uploads in parts.

    Raises DomainNotFound, DomainHasFiles, DomainHasClasses (`default` does not count).
    """
    await serialise(tx)
    dmid = await _dmid(tx, name)
    condition, values = visible(tx.dialect, "dkey")
    if await tx.row(f"SELECT 1 FROM file WHERE dmid = ? AND {condition} LIMIT 1", dmid, *values) is not None:
        raise errors.DomainHasFiles
    if await tx.row("SELECT 1 FROM class WHERE dmid = ? AND classid <> 0", dmid) is not None:
        raise errors.DomainHasClasses
    await multipart.remove_domain(tx, dmid)
    for table in (*_OF_BUCKETS, "class", "domain"):
        await tx.run(f"DELETE FROM {table} WHERE dmid = ?", dmid)


async def create_class(
    tx: Transaction,
    domain: str,
    name: str,
    *,
    mindevcount: int,
    replpolicy: str | None = None,
    hashtype: HashType | None = None,
) -> int:
    """Create a class; return its classid (0 for `default`). Raises DomainNotFound, ClassExists."""
    await serialise(tx)
    dmid = await _dmid(tx, domain)
    if await tx.row("SELECT 1 FROM class WHERE dmid = ? AND classname = ?", dmid, name) is not None:
        raise errors.ClassExists
    classid = 0 if name == DEFAULT_CLASS else await _next(tx, "classid", "class", "WHERE dmid = ?", dmid)
    await tx.run(
        "INSERT INTO class (dmid, classid, classname, mindevcount, replpolicy, hashtype) VALUES (?, ?, ?, ?, ?, ?)",
        dmid,
        classid,
        name,
        mindevcount,
        replpolicy,
        hashtype,
    )
    return classid


async def update_class(
    tx: Transaction,
    domain: str,
    name: str,
    *,
    mindevcount: int | None = None,
    replpolicy: str | None = None,
    hashtype: HashType | None = None,
    clear_hashtype: bool = False,
) -> int:
    """Change the given fields of a class; return its classid. Raises DomainNotFound, ClassNotFound.

    The class `default` is created if it has no row yet.
    """
    await serialise(tx)
    dmid = await _dmid(tx, domain)
    row = await tx.row("SELECT classid FROM class WHERE dmid = ? AND classname = ?", dmid, name)
    if row is None:
        if name != DEFAULT_CLASS:
            raise errors.ClassNotFound
        await create_class(tx, domain, name, mindevcount=mindevcount or 2)
        row = (0,)
    changes: dict[str, object] = {}
    if mindevcount is not None:
        changes["mindevcount"] = mindevcount
    if replpolicy:
        changes["replpolicy"] = replpolicy
    if hashtype is not None or clear_hashtype:
        changes["hashtype"] = hashtype
    await _update(tx, "class", changes, "dmid = ? AND classid = ?", dmid, row[0])
    classid: int = row[0]
    return classid


async def _update(tx: Transaction, table: str, changes: Mapping[str, object], where: str, *values: object) -> None:
    if changes:
        assignments = ", ".join(f"{column} = ?" for column in changes)
        await tx.run(f"UPDATE {table} SET {assignments} WHERE {where}", *changes.values(), *values)


async def delete_class(tx: Transaction, domain: str, name: str) -> None:
    """Remove an empty class. Raises DomainNotFound, ClassNotFound, NodelDefaultClass, ClassHasFiles."""
    await serialise(tx)
    if name == DEFAULT_CLASS:
        raise errors.NodelDefaultClass
    dmid = await _dmid(tx, domain)
    row = await tx.row("SELECT classid FROM class WHERE dmid = ? AND classname = ?", dmid, name)
    if row is None:
        raise errors.ClassNotFound
    condition, values = visible(tx.dialect, "dkey")
    stored = f"SELECT 1 FROM file WHERE dmid = ? AND classid = ? AND {condition} LIMIT 1"
    if await tx.row(stored, dmid, row[0], *values) is not None:
        raise errors.ClassHasFiles
    await tx.run("DELETE FROM class WHERE dmid = ? AND classid = ?", dmid, row[0])


# --- hosts and devices ------------------------------------------------------------------------------------------------

HOST_COLUMNS = {
    "state": "status",
    "ip": "hostip",
    "http_port": "http_port",
    "http_get_port": "http_get_port",
    "altip": "altip",
    "altmask": "altmask",
}
"""Field of `model.cluster.Host` -> column, for the fields that can be changed."""


async def _hostid(tx: Transaction, name: str) -> int:
    row = await tx.row("SELECT hostid FROM host WHERE hostname = ?", name)
    if row is None:
        raise errors.HostNotFound
    hostid: int = row[0]
    return hostid


async def _refuse_shared_address(tx: Transaction, hostid: int, changes: Mapping[str, object]) -> None:
    for field in ("ip", "altip"):
        address = changes.get(field)
        if address and await tx.row(
            "SELECT 1 FROM host WHERE hostid <> ? AND (hostip = ? OR altip = ?)", hostid, address, address
        ):
            raise errors.Dup


async def create_host(tx: Transaction, name: str, /, **fields: object) -> int:
    """Create a host from fields of `model.cluster.Host`; return its hostid. Raises HostExists, Dup (address in use)."""
    await serialise(tx)
    if await tx.row("SELECT 1 FROM host WHERE hostname = ?", name) is not None:
        raise errors.HostExists
    hostid = await _next(tx, "hostid", "host")
    await _refuse_shared_address(tx, hostid, fields)
    fields.setdefault("state", HostState.DOWN)
    columns = {HOST_COLUMNS[field]: value for field, value in fields.items()}
    await tx.run(
        f"INSERT INTO host (hostid, hostname, {', '.join(columns)}) VALUES (?, ?{', ?' * len(columns)})",
        hostid,
        name,
        *columns.values(),
    )
    return hostid


async def update_host(tx: Transaction, name: str, /, **fields: object) -> int:
    """Change fields of a host; return its hostid. Raises HostNotFound, Dup (address in use)."""
    await serialise(tx)
    hostid = await _hostid(tx, name)
    await _refuse_shared_address(tx, hostid, fields)
    changes = {HOST_COLUMNS[field]: value for field, value in fields.items()}
    await _update(tx, "host", changes, "hostid = ?", hostid)
    return hostid


async def delete_host(tx: Transaction, name: str) -> None:
    """Remove a host that has no devices. Raises UnknownHost, HostNotEmpty."""
    await serialise(tx)
    try:
        hostid = await _hostid(tx, name)
    except errors.HostNotFound:
        raise errors.UnknownHost from None
    if await tx.row("SELECT 1 FROM device WHERE hostid = ?", hostid) is not None:
        raise errors.HostNotEmpty
    await tx.run("DELETE FROM host WHERE hostid = ?", hostid)


async def create_device(tx: Transaction, devid: int, hostid: int, state: DeviceState = DeviceState.ALIVE) -> None:
    """Create a device. Raises ExistingDevid, UnknownHostid."""
    await serialise(tx)
    if await tx.row("SELECT 1 FROM device WHERE devid = ?", devid) is not None:
        raise errors.ExistingDevid
    if await tx.row("SELECT 1 FROM host WHERE hostid = ?", hostid) is None:
        raise errors.UnknownHostid
    await tx.run("INSERT INTO device (devid, hostid, status, weight) VALUES (?, ?, ?, 100)", devid, hostid, state)


async def _belongs(tx: Transaction, host: str, devid: int) -> str:
    row = await tx.row(
        "SELECT h.hostname, d.status FROM device d LEFT JOIN host h ON h.hostid = d.hostid WHERE d.devid = ?", devid
    )
    if row is None:
        raise errors.NoDevice
    if row[0] != host:
        raise errors.HostMismatch
    state: str = row[1]
    return state


async def set_device_state(tx: Transaction, host: str, devid: int, state: DeviceState) -> None:
    """Set a device's state. Raises NoDevice, HostMismatch, StateTooHigh (dead to alive)."""
    await serialise(tx)
    if await _belongs(tx, host, devid) == DeviceState.DEAD and state is DeviceState.ALIVE:
        raise errors.StateTooHigh
    await tx.run("UPDATE device SET status = ? WHERE devid = ?", state, devid)


async def set_device_weight(tx: Transaction, host: str, devid: int, weight: int) -> None:
    """Set a device's read weight. Raises NoDevice, HostMismatch."""
    await _belongs(tx, host, devid)
    await tx.run("UPDATE device SET weight = ? WHERE devid = ?", weight, devid)


async def record_usage(tx: Transaction, usage: Mapping[int, tuple[int, int]], *, now: int) -> None:
    """Record the usage of devices: devid -> (total MiB, used MiB), observed at `now` (unix seconds)."""
    await tx.run_many(
        "UPDATE device SET mb_total = ?, mb_used = ?, mb_asof = ? WHERE devid = ?",
        [(total, used, now, devid) for devid, (total, used) in usage.items()],
    )


# --- settings ---------------------------------------------------------------------------------------------------------


async def get_setting(tx: Transaction, field: str) -> str | None:
    """Return the value of a server setting, None if it is not set."""
    row = await tx.row("SELECT value FROM server_settings WHERE field = ?", field)
    return row[0] if row else None


async def set_setting(tx: Transaction, field: str, value: str | None) -> None:
    """Set a server setting; None removes it."""
    if value is None:
        await tx.run("DELETE FROM server_settings WHERE field = ?", field)
    else:
        await tx.run(tx.dialect.upsert("server_settings", ("field",), ("value",)), field, value)
