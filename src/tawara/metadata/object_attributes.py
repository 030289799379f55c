"""Changes the attributes of a stored file, such as the tags of an object, without other content.

Each function is one transaction; see `contract`.
"""

from __future__ import annotations

from collections.abc import Callable

from tawara.metadata import journal_outbox
from tawara.metadata.contract import Transaction
from tawara.model.errors import UnknownKey


async def change(
    tx: Transaction, dmid: int, key: bytes, changed: Callable[[bytes | None], bytes | None], *, now: int
) -> None:
    """Store what `changed` makes of the attributes of a key's file. `now`: unix seconds. Raises UnknownKey.

    Changes of one key run one after another. A file of MogileFS, of which no time is known, was stored at `now` then.
    """
    select = f"SELECT fid FROM file WHERE dmid = ? AND dkey = {tx.dialect.key_value}{tx.dialect.for_update}"
    found = await tx.row(select, dmid, key)
    if found is None:
        raise UnknownKey
    fid = found[0]
    own = await tx.row("SELECT attributes FROM tawara_file WHERE fid = ?", fid)
    stored = None if own is None or own[0] is None else bytes(own[0])
    attributes = changed(stored)
    if own is None:
        await tx.run("INSERT INTO tawara_file (fid, stored_at, attributes) VALUES (?, ?, ?)", fid, now, attributes)
    elif attributes != stored:
        await tx.run("UPDATE tawara_file SET attributes = ? WHERE fid = ?", attributes, fid)
    await journal_outbox.of_files(tx, [fid])
