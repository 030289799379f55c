"""WebDAV's write locks, shared by all gateways (`tawara_dav_lock`); model.dav_locks decides what they prevent.

Paths are keys without a trailing slash. Each function is one transaction; see `contract`. Times are unix seconds.
"""

from __future__ import annotations

from typing import Final

from tawara.metadata import cluster
from tawara.metadata.contract import Row, Transaction
from tawara.metadata.dialect import marks, successor
from tawara.model.dav_locks import DavLock, ancestors, conflicting
from tawara.model.errors import Locked

_COLUMNS: Final = "token, path, deep, exclusive, account, expires_at, owner"


async def near(tx: Transaction, dmid: int, path: bytes, *, tree: bool, now: int) -> list[DavLock]:
    """Return the valid locks on a path, on the collections above it and, with `tree`, on all that is below it."""
    paths = [path, *ancestors(path)]
    condition, values = f"path IN ({marks(paths)})", list[object](paths)
    if tree:
        condition += " OR path >= ?"
        values.append(path and path + b"/")
        if (end := successor(path and path + b"/")) is not None:
            condition += " AND path < ?"
            values.append(end)
    rows = await tx.rows(
        f"SELECT {_COLUMNS} FROM tawara_dav_lock WHERE dmid = ? AND expires_at > ? AND ({condition})"
        " ORDER BY path, token",
        *(dmid, now, *values),
    )
    return [_lock(row) for row in rows]


async def add(tx: Transaction, dmid: int, lock: DavLock, *, now: int) -> None:
    """Insert a lock, and remove those that have expired. Raises Locked if another lock prevents it."""
    await cluster.serialise(tx)
    await tx.run("DELETE FROM tawara_dav_lock WHERE expires_at <= ?", now)
    others = await near(tx, dmid, lock.path, tree=lock.deep, now=now)
    if found := conflicting(others, lock.path, deep=lock.deep, exclusive=lock.exclusive):
        raise Locked(paths=[each.path for each in found])
    await tx.run(
        f"INSERT INTO tawara_dav_lock (dmid, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        dmid,
        *(lock.token, lock.path, int(lock.deep), int(lock.exclusive), lock.account, lock.expires_at, lock.owner),
    )


async def refresh(tx: Transaction, dmid: int, token: str, *, expires_at: int) -> None:
    """Set when a lock expires; without an effect if it does not exist."""
    await tx.run("UPDATE tawara_dav_lock SET expires_at = ? WHERE dmid = ? AND token = ?", expires_at, dmid, token)


async def remove(tx: Transaction, dmid: int, token: str) -> None:
    """Remove a lock; without an effect if it does not exist."""
    await tx.run("DELETE FROM tawara_dav_lock WHERE dmid = ? AND token = ?", dmid, token)


async def remove_tree(tx: Transaction, dmid: int, path: bytes) -> None:
    """Remove the locks of a resource and of all below it: it was deleted or moved (RFC 4918, section 7.5)."""
    end = successor(path + b"/")
    await tx.run(
        "DELETE FROM tawara_dav_lock WHERE dmid = ? AND (path = ? OR (path >= ? AND path < ?))",
        *(dmid, path, path + b"/", end),
    )


def _lock(row: Row) -> DavLock:
    token, path, deep, exclusive, account, expires_at, owner = row
    return DavLock(token, bytes(path), bool(deep), bool(exclusive), account, expires_at, owner)
