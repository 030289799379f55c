"""The epoch of this database, and whether it is known to be older than the contents of its devices (settings).

Each function is one transaction.
"""

from __future__ import annotations

from tawara.metadata import cluster, journals
from tawara.metadata.contract import Transaction
from tawara.model import epoch
from tawara.model.cluster import STALE
from tawara.model.epoch import AHEAD, Epoch, Lineage, Relation
from tawara.model.errors import StaleDatabase

EPOCH = "tawara_epoch"
"""Setting: the store's id and the latest epochs, in the format of model.epoch.Lineage."""
KNOWN_NAMES = "tawara_names_known"
"""Setting: the greatest journal generation merged into this database from the devices."""


async def lineage(tx: Transaction) -> Lineage | None:
    """Return the epochs of this database; None before the first."""
    return Lineage.parse(await cluster.get_setting(tx, EPOCH))


async def found(tx: Transaction, store: str, token: str) -> Lineage:
    """Start the first epoch, of a store with this id, unless one exists; return the epochs."""
    await cluster.serialise(tx)
    known = await lineage(tx)
    if known is None:
        known = Lineage(store, ((1, token),))
        await cluster.set_setting(tx, EPOCH, str(known))
    return known


async def advance(tx: Transaction, token: str) -> Lineage | None:
    """Start another epoch, before anything is written to a device; return None if there is no epoch yet.

    Raises StaleDatabase.
    """
    await cluster.serialise(tx)
    reason = await cluster.get_setting(tx, STALE)
    if reason:
        raise StaleDatabase.because(reason)
    known = await lineage(tx)
    if known is None:
        return None
    known = known.advanced(token)
    await cluster.set_setting(tx, EPOCH, str(known))
    return known


async def examine(tx: Transaction, devid: int, mark: Epoch) -> Relation:
    """Compare a device's mark with the database's current epochs, which may be newer than the mark.

    If the database is older than the device, that is recorded, and from then on nothing is written to the devices.
    """
    await cluster.serialise(tx)
    known = await lineage(tx)
    relation = epoch.relation(known, mark)
    if relation in (Relation.LATER, Relation.DIVERGED):
        await declare_stale(tx, epoch.explain(known, mark, devid))
    return relation


async def examine_names(tx: Transaction, claim: journals.JournalRow, reason: str) -> bool:
    """Handle a device's journal being newer than the worker's claim; return whether the database is the older one.

    The database is not older if another worker has taken over the device's journal in the meantime.
    """
    await cluster.serialise(tx)
    now = (await journals.read_due(tx)).journals.get(claim.devid)
    if now is None or not now.held or now.epoch != claim.epoch:
        return False
    await declare_stale(tx, reason)
    return True


async def declare_stale(tx: Transaction, reason: str) -> None:
    """Make every process stop writing until the devices' journals are merged. The first reason is kept."""
    if not await cluster.get_setting(tx, STALE):
        await cluster.set_setting(tx, STALE, reason)


async def record_merge(tx: Transaction, store: str, token: str, *, beyond: int, names: int, at_least: int) -> None:
    """Record that the devices' metadata is merged: advance beyond every known epoch, and allow writing again.

    `beyond`: the greatest epoch found, `names`: the greatest journal generation found; `at_least`: unix seconds.
    """
    await cluster.serialise(tx)
    known = await lineage(tx) or Lineage(store, ((1, token),))
    known = Lineage(store, known.steps).advanced(token, beyond=beyond + AHEAD)
    await cluster.set_setting(tx, EPOCH, str(known))
    generation = int(await cluster.get_setting(tx, journals.GENERATION) or 0)
    await journals.begin_generation(tx, at_least=max(at_least, names + 1, generation + 1), unless=generation)
    await cluster.set_setting(tx, KNOWN_NAMES, str(max(names, generation)))
    await cluster.set_setting(tx, STALE, None)


async def known_names(tx: Transaction) -> int:
    """Return the greatest journal generation merged into this database."""
    return int(await cluster.get_setting(tx, KNOWN_NAMES) or 0)


async def keep_lineage(tx: Transaction) -> tuple[str, ...]:
    """Record, before mogilefsd takes over, that all journals are this database's; return the settings to keep."""
    if await lineage(tx) is None:
        return ()
    generation = int(await cluster.get_setting(tx, journals.GENERATION) or 0)
    await cluster.set_setting(tx, KNOWN_NAMES, str(max(generation, await known_names(tx))))
    return EPOCH, KNOWN_NAMES


async def forget_acceptance(tx: Transaction, devid: int) -> None:
    """Record that the device has been accepted as it was."""
    await cluster.serialise(tx)
    left = [each for each in (await cluster.get_setting(tx, cluster.ACCEPTED) or "").split() if each != str(devid)]
    await cluster.set_setting(tx, cluster.ACCEPTED, " ".join(left) or None)
