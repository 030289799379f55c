"""The identity of each device when it was first seen (`tawara_device`).

Each function is one transaction; see `contract`.
"""

from __future__ import annotations

from tawara.metadata import cluster
from tawara.metadata.contract import Transaction
from tawara.model import errors

_BY_HAND = "If it is to be used as it is: `tawara device accept`."
_OTHER_DISK = f"it is another disk than before. {_BY_HAND}"


async def check_identity(tx: Transaction, devid: int, shown: str, *, empty: bool) -> str | None:
    """Record the identity `shown` by a new device, or compare it with the recorded one; return the problem, if any.

    `empty`: the device has no files.
    """
    await cluster.serialise(tx)
    row = await tx.row("SELECT identity FROM tawara_device WHERE devid = ?", devid)
    was = row[0] if row else None
    if was == shown:
        return None
    other = await tx.row("SELECT devid FROM tawara_device WHERE identity = ?", shown)
    if other is not None:
        return f"it shows the identity of dev{other[0]}: have disks been swapped, or one been copied?"
    if was is not None and not was.startswith(cluster.ACCEPTING):
        return _OTHER_DISK
    if was is None and empty and await tx.row("SELECT 1 FROM file_on WHERE devid = ? LIMIT 1", devid) is not None:
        return f"it is empty, though files are recorded on it: is its disk mounted? {_BY_HAND}"
    await tx.run(tx.dialect.upsert("tawara_device", ("devid",), ("identity",)), devid, shown)
    return None


async def accept(tx: Transaction, devid: int) -> None:
    """Accept the identity that the device shows next, whatever it was before. Raises NoDevice."""
    await cluster.serialise(tx)
    if await tx.row("SELECT 1 FROM device WHERE devid = ?", devid) is None:
        raise errors.NoDevice
    await tx.run(tx.dialect.upsert("tawara_device", ("devid",), ("identity",)), devid, f"{cluster.ACCEPTING}{devid}")
    accepted = set((await cluster.get_setting(tx, cluster.ACCEPTED) or "").split()) | {str(devid)}
    await cluster.set_setting(tx, cluster.ACCEPTED, " ".join(sorted(accepted)))
