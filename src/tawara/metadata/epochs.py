"""The epoch of this database, and whether it is known to be older than what its devices hold (settings).

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
"""Setting: the store's id and the last epochs, as model.epoch.Lineage writes them."""
KNOWN_NAMES = "tawara_names_known"
"""Setting: the greatest generation of names that was read into this database from the devices."""


async def lineage(tx: Transaction) -> Lineage | None:
    """What this database knows of its epochs; None before the first."""
    return Lineage.parse(await cluster.get_setting(tx, EPOCH))


async def found(tx: Transaction, store: str, token: str) -> Lineage:
    """Begin the first epoch, of a store with this id, unless there is one."""
    await cluster.alone(tx)
    known = await lineage(tx)
    if known is None:
        known = Lineage(store, ((1, token),))
        await cluster.set_setting(tx, EPOCH, str(known))
    return known


async def advance(tx: Transaction, token: str) -> Lineage | None:
    """Begin another epoch, to be done before anything is written on a device; None if there was none yet.

    Raises StaleDatabase.
    """
    await cluster.alone(tx)
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
    """Judge a device's mark by what the database knows now, which is more than when the mark was written.

    If it is older than the device, that is written down: from then on nothing is written to the devices.
    """
    await cluster.alone(tx)
    known = await lineage(tx)
    relation = epoch.relation(known, mark)
    if relation in (Relation.LATER, Relation.DIVERGED):
        await declare_stale(tx, epoch.explain(known, mark, devid))
    return relation


async def examine_names(tx: Transaction, claim: journals.JournalRow, reason: str) -> bool:
    """The names on a device are later than what a worker knows of them; whether it is the database that is older.

    It is not where another worker has taken the device's journal over meanwhile.
    """
    await cluster.alone(tx)
    now = (await journals.look(tx)).journals.get(claim.devid)
    if now is None or not now.held or now.epoch != claim.epoch:
        return False
    await declare_stale(tx, reason)
    return True


async def declare_stale(tx: Transaction, reason: str) -> None:
    """Have every process stop writing, until the devices' names are merged. The first reason is kept."""
    if not await cluster.get_setting(tx, STALE):
        await cluster.set_setting(tx, STALE, reason)


async def take_in(tx: Transaction, store: str, token: str, *, beyond: int, names: int, at_least: int) -> None:
    """The database has taken in all that the devices knew: let it be ahead of every other one, and go on.

    `beyond`: the greatest epoch that was seen, `names`: the greatest generation of names; `at_least`: unix seconds.
    """
    await cluster.alone(tx)
    known = await lineage(tx) or Lineage(store, ((1, token),))
    known = Lineage(store, known.steps).advanced(token, beyond=beyond + AHEAD)
    await cluster.set_setting(tx, EPOCH, str(known))
    generation = int(await cluster.get_setting(tx, journals.GENERATION) or 0)
    await journals.begin_generation(tx, at_least=max(at_least, names + 1, generation + 1), unless=generation)
    await cluster.set_setting(tx, KNOWN_NAMES, str(max(names, generation)))
    await cluster.set_setting(tx, STALE, None)


async def known_names(tx: Transaction) -> int:
    """The greatest generation of names that was read into this database."""
    return int(await cluster.get_setting(tx, KNOWN_NAMES) or 0)


async def keep_known(tx: Transaction) -> tuple[str, ...]:
    """Record that all journals on the devices are this database's, before it is left to mogilefsd; the settings to
    keep."""
    if await lineage(tx) is None:
        return ()
    generation = int(await cluster.get_setting(tx, journals.GENERATION) or 0)
    await cluster.set_setting(tx, KNOWN_NAMES, str(max(generation, await known_names(tx))))
    return EPOCH, KNOWN_NAMES


async def forget_acceptance(tx: Transaction, devid: int) -> None:
    """The device has been taken as it was."""
    await cluster.alone(tx)
    left = [each for each in (await cluster.get_setting(tx, cluster.ACCEPTED) or "").split() if each != str(devid)]
    await cluster.set_setting(tx, cluster.ACCEPTED, " ".join(left) or None)
