"""Dead properties that WebDAV's clients set (`tawara_dav_property`).

Paths are keys without a trailing slash. Each function is one transaction; see `contract`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import marks, rounded, successor
from tawara.wire.dav.documents import PropertyChange, PropertyName


async def read(tx: Transaction, dmid: int, paths: Sequence[bytes]) -> dict[bytes, dict[PropertyName, str]]:
    """Return the properties of some resources, as XML; resources without any are left out."""
    found: dict[bytes, dict[PropertyName, str]] = {}
    if paths:
        values = rounded(paths)
        rows = await tx.rows(
            "SELECT path, namespace, name, value FROM tawara_dav_property"
            f" WHERE dmid = ? AND path IN ({marks(values)}) ORDER BY path, namespace, name",
            *(dmid, *values),
        )
        for path, namespace, name, value in rows:
            found.setdefault(bytes(path), {})[PropertyName(namespace, name)] = value
    return found


async def change(tx: Transaction, dmid: int, path: bytes, changes: Sequence[PropertyChange]) -> None:
    """Apply changes in order, all or none."""
    last = {each.name: each.value for each in changes}
    await tx.run_many(
        "DELETE FROM tawara_dav_property WHERE dmid = ? AND path = ? AND hash = ?",
        [(dmid, path, _hash(name)) for name in last],
    )
    await _insert(tx, dmid, path, {name: value for name, value in last.items() if value is not None})


async def copy(tx: Transaction, from_dmid: int, from_path: bytes, to_dmid: int, to_path: bytes) -> None:
    """Give a resource the properties of another, in place of its own."""
    await tx.run("DELETE FROM tawara_dav_property WHERE dmid = ? AND path = ?", to_dmid, to_path)
    found = await read(tx, from_dmid, [from_path])
    await _insert(tx, to_dmid, to_path, found.get(from_path, {}))


async def remove_tree(tx: Transaction, dmid: int, path: bytes) -> None:
    """Remove the properties of a resource and of all below it."""
    await tx.run(
        "DELETE FROM tawara_dav_property WHERE dmid = ? AND (path = ? OR (path >= ? AND path < ?))",
        *(dmid, path, path + b"/", successor(path + b"/")),
    )


async def move_tree(tx: Transaction, dmid: int, from_path: bytes, to_path: bytes) -> None:
    """Move the properties of a resource and of all below it to another path, where there are none."""
    rows = await tx.rows(
        "SELECT DISTINCT path FROM tawara_dav_property WHERE dmid = ? AND (path = ? OR (path >= ? AND path < ?))",
        *(dmid, from_path, from_path + b"/", successor(from_path + b"/")),
    )
    await tx.run_many(
        "UPDATE tawara_dav_property SET path = ? WHERE dmid = ? AND path = ?",
        [(to_path + bytes(path)[len(from_path) :], dmid, bytes(path)) for (path,) in rows],
    )


async def _insert(tx: Transaction, dmid: int, path: bytes, properties: Mapping[PropertyName, str]) -> None:
    await tx.run_many(
        "INSERT INTO tawara_dav_property (dmid, path, hash, namespace, name, value) VALUES (?, ?, ?, ?, ?, ?)",
        [(dmid, path, _hash(name), name.namespace, name.name, value) for name, value in properties.items()],
    )


def _hash(name: PropertyName) -> str:
    """Return the primary key of a property's name, which itself is too long for an index."""
    return hashlib.sha256(f"{name.namespace}\0{name.name}".encode()).hexdigest()
