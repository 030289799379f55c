"""Compares the rows of the database with the files on all devices, without using the store itself. `survey` reads both;
the checks are pure and report problems by fid."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from tawara.metadata import traces
from tawara.metadata.contract import Transaction
from tawara.model.explanation import PendingWork
from tawara.model.limits import END_OF_TIME
from tests.probe.cluster.load import Load
from tests.probe.cluster.machines import COPIES, Machines

BRIEF = 5.0
"""Seconds that a file may be on its way in; what is older was left there."""


@dataclass(frozen=True, slots=True)
class File:
    """A row of `file` with its replicas."""

    fid: int
    key: str
    length: int
    classid: int
    devcount: int
    on: frozenset[int]


@dataclass
class Survey:
    """Rows and disks at one time; if both change meanwhile they need not agree."""

    files: dict[int, File] = field(default_factory=dict)
    named: set[tuple[int, int]] = field(default_factory=set)
    """(fid, devid) of which any row says that bytes may be there."""
    uploads: dict[int, str] = field(default_factory=dict)
    """Open uploads. Those that are never closed expire after an hour."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Queue -> rows in it."""
    given_up: int = 0
    """Files that need manual intervention."""
    on_disk: dict[tuple[int, int], Path] = field(default_factory=dict)
    leftovers: list[Path] = field(default_factory=list)
    """Files on devices that are no replicas."""
    dead: set[int] = field(default_factory=set)
    """Devices that are gone for ever."""


async def survey(machines: Machines) -> Survey:
    """Read both. The disks are read last, so that every replica on them had its row before."""
    found: Survey = await machines.rows.read(_rows)
    for devid in machines.devices:
        if devid not in found.dead:
            _walk(machines.device(devid), devid, found)
    # A row that was made after the first look explains a file that came after it.
    found.named |= (await machines.rows.read(_rows)).named
    return found


async def _rows(tx: Transaction) -> Survey:
    found = Survey()
    on: dict[int, set[int]] = {}
    for fid, devid in await tx.rows("SELECT fid, devid FROM file_on"):
        on.setdefault(fid, set()).add(devid)
        found.named.add((fid, devid))
    columns = f"fid, {tx.dialect.key_column('dkey')}, length, classid, devcount"
    for fid, key, length, classid, devcount in await tx.rows(f"SELECT {columns} FROM file"):
        found.files[fid] = File(fid, key.decode(), length, classid, devcount, frozenset(on.get(fid, ())))
    for fid, devids in await tx.rows("SELECT fid, devids FROM tempfile"):
        found.uploads[fid] = devids
        found.named |= {(fid, int(devid)) for devid in (devids or "").split(",") if devid}
    found.named |= {(fid, devid) for fid, devid in await tx.rows("SELECT fid, devid FROM tawara_copy")}
    for table in ("file_to_replicate", "file_to_delete2", "file_to_queue", "tawara_copy"):
        rows = await tx.rows(f"SELECT COUNT(*) FROM {table}")
        found.waiting[table] = rows[0][0]
    stuck = await tx.rows("SELECT COUNT(*) FROM file_to_replicate WHERE nexttry = ?", END_OF_TIME)
    found.given_up = stuck[0][0]
    dead = await tx.rows("SELECT devid FROM device WHERE status = 'dead'")
    found.dead = {devid for (devid,) in dead}
    return found


def _walk(device: Path, devid: int, found: Survey) -> None:
    for path in device.rglob("*"):
        names = path.relative_to(device).parts
        if path.suffix == ".fid" and len(names) == 4:
            found.on_disk[int(path.stem), devid] = path
        elif names[0] == "~incoming" and len(names) > 1:
            try:
                age = time.time() - path.stat().st_mtime
            except OSError:
                continue  # it has its name by now
            if age > BRIEF:
                found.leftovers.append(path)


def orphans(found: Survey) -> list[str]:
    """Data without a row."""
    unnamed = sorted(found.on_disk.keys() - found.named)
    return [f"fid {fid} on dev{devid} has no row" for fid, devid in unnamed] + [
        f"{path} is left over" for path in found.leftovers
    ]


def unfinished(found: Survey) -> list[str]:
    """Pending work."""
    return [f"{count} in {table}" for table, count in found.waiting.items() if count]


async def deferred(machines: Machines) -> list[str]:
    """Some of the pending work, with its due time and the reason of its deferral."""

    async def ask(tx: Transaction) -> list[str]:
        found = []
        for table, work in (("file_to_replicate", PendingWork.REPLICATE), ("file_to_delete2", PendingWork.DELETE)):
            rows = await tx.rows(f"SELECT fid, nexttry, failcount FROM {table} ORDER BY nexttry DESC LIMIT 5")
            for fid, nexttry, failcount in rows:
                failure = (await traces.failures_of(tx, fid)).get(work)
                why = f"{failure.reason}, {time.time() - failure.at:.0f} s ago" if failure else "no reason is known"
                found.append(f"{table}: fid {fid} in {nexttry - time.time():.0f} s after {failcount} failures: {why}")
        settings = await tx.rows("SELECT field, value FROM server_settings WHERE field LIKE 'tawara_%'")
        return found + [f"{field} = {value}" for field, value in settings]

    return await machines.rows.read(ask)


def short(machines: Machines, found: Survey, upto: int, classes: dict[int, int]) -> set[str]:
    """The keys of files up to a fid that lack copies: good ones, on as many hosts as their class requires."""
    lacking = set()
    for file in found.files.values():
        if file.fid > upto:
            continue
        good = {devid for devid in file.on if _is_whole(found, file, devid)}
        if len({machines.node_of(devid) for devid in good}) < classes[file.classid]:
            lacking.add(file.key)
    return lacking


def _is_whole(found: Survey, file: File, devid: int) -> bool:
    path = found.on_disk.get((file.fid, devid))
    try:
        return path is not None and path.stat().st_size == file.length
    except OSError:
        return False


def miscounted(found: Survey) -> list[str]:
    """Files whose devcount differs from their number of rows, or with more copies in rows than on disk."""
    wrong = [f"fid {file.fid} counts {file.devcount} of {sorted(file.on)}" for file in found.files.values()
             if file.devcount != len(file.on)]  # fmt: skip
    for file in found.files.values():
        wrong += [f"fid {file.fid} is not on dev{devid}" for devid in file.on if (file.fid, devid) not in found.on_disk]
    return wrong


def corrupt(found: Survey, load: Load) -> list[str]:
    """Replicas on the disks that do not have the acknowledged content of their key."""
    wrong = []
    for file in found.files.values():
        belief = load.beliefs.get(file.key)
        possible = {None} if belief is None else belief.possible
        for devid in file.on:
            path = found.on_disk.get((file.fid, devid))
            if path is not None and hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() not in possible:
                wrong.append(f"{file.key}, fid {file.fid} on dev{devid}, has other bytes")
    return wrong


def lost(found: Survey, load: Load) -> list[str]:
    """Acknowledged files without a row or replica; acknowledged deletions that were undone."""
    keys = {file.key: file for file in found.files.values()}
    wrong = []
    for key, belief in load.beliefs.items():
        file = keys.get(key)
        if file is None and None not in belief.possible:
            wrong.append(f"{key} has no row")
        elif file is not None and belief.possible == {None}:
            wrong.append(f"{key} was deleted, and is fid {file.fid}")
        elif file is not None and not any((file.fid, devid) in found.on_disk for devid in file.on):
            wrong.append(f"{key}, fid {file.fid}, has no replica: rows say {sorted(file.on)}")
    return wrong


async def wanted_copies(machines: Machines) -> dict[int, int]:
    """classid -> copies."""

    async def ask(tx: Transaction) -> dict[int, int]:
        rows = await tx.rows("SELECT classid, mindevcount FROM class")
        return {0: COPIES[""]} | {classid: copies for classid, copies in rows if classid}

    return await machines.rows.read(ask)


async def highest_fid(machines: Machines) -> int:
    """The highest fid."""

    async def ask(tx: Transaction) -> int:
        rows = await tx.rows("SELECT MAX(fid) FROM file")
        return rows[0][0] or 0

    return await machines.rows.read(ask)
