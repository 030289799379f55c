"""Collections over the flat key space, as WebDAV has them: a collection is a common prefix that ends with a slash.

A collection exists if its marker, the empty file `path/`, exists, or any key begins with `path/`. Paths have no
trailing slash; the root of a domain is the empty path. Each function is one transaction; see `contract`.
"""

from __future__ import annotations

from tawara.metadata import dav_locks, dav_properties, files, journal_outbox, key_listing
from tawara.metadata.contract import Transaction
from tawara.model.errors import CollectionTooLarge, InvalidKey, KeyExists
from tawara.model.files import StoredFile
from tawara.model.limits import KEY_BYTES

MOST_MOVED = 20_000
"""Most files that one transaction moves."""
_AT_ONCE = 500


async def find(tx: Transaction, dmid: int, path: bytes) -> tuple[StoredFile | None, bool]:
    """Return the file at a path, and whether there is a collection."""
    if not path:
        return None, True
    members = await key_listing.page(tx, dmid, path + b"/", b"", None, 1)
    return await files.find(tx, dmid, path), bool(members.files)


async def move(tx: Transaction, dmid: int, from_path: bytes, to_path: bytes) -> int:
    """Give all keys below a collection another path, with their dead properties; return the number of files.

    Raises KeyExists if there is a key below `to_path`, InvalidKey if a key becomes too long, CollectionTooLarge.
    """
    old, new = from_path + b"/", to_path + b"/"
    if (await key_listing.page(tx, dmid, new, b"", None, 1)).files:
        raise KeyExists
    conditions, values = tx.dialect.key_range("dkey", old, None)
    rows = await tx.rows(
        f"SELECT fid, {tx.dialect.key_column('dkey')} FROM file WHERE dmid = ? AND {' AND '.join(conditions)}"
        f" ORDER BY dkey LIMIT ?{tx.dialect.for_update}",
        *(dmid, *values, MOST_MOVED + 1),
    )
    if len(rows) > MOST_MOVED:
        raise CollectionTooLarge
    renamed = [(new + bytes(key)[len(old) :], fid) for fid, key in rows]
    if any(len(key) > KEY_BYTES for key, _ in renamed):
        raise InvalidKey(f"A key below the new path would have more than {KEY_BYTES} bytes")
    await tx.run_many(f"UPDATE file SET dkey = {tx.dialect.key_value} WHERE fid = ?", renamed)
    for start in range(0, len(renamed), _AT_ONCE):
        await journal_outbox.of_files(tx, [fid for _, fid in renamed[start : start + _AT_ONCE]])
    await dav_properties.move_tree(tx, dmid, from_path, to_path)
    await dav_locks.remove_tree(tx, dmid, from_path)
    return len(renamed)


async def forget(tx: Transaction, dmid: int, path: bytes) -> None:
    """Remove the locks and dead properties of a resource that was deleted, and of all below it."""
    await dav_properties.remove_tree(tx, dmid, path)
    await dav_locks.remove_tree(tx, dmid, path)
