"""Adopting a MogileFS database, and undoing the adoption.

Adopting only adds the `tawara_` tables and settings; widening columns is a separate option. The original types of
widened columns are stored in the settings, so that `undo` can restore the schema. Each coroutine function is one
transaction; times are unix seconds. docs/mogilefs.md 17.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from tawara.metadata import catalogue, epochs, migrations, runs, schema_version
from tawara.metadata.contract import Transaction
from tawara.metadata.findings import (
    ADOPTED,
    PREFIX,
    UNKNOWN_TO_MOGILEFS,
    WIDENED,
    AdoptionFindings,
    count,
    examine,
    orphaned,
    widened,
)
from tawara.model.errors import ConfigurationError, InUse

# --- adopting ---------------------------------------------------------------------------------------------------------


def planned(found: AdoptionFindings, *, widen: bool) -> list[str]:
    """Describe what `adopt` would do; empty if nothing is left to do."""
    steps = [step.summary for step, _ in migrations.route(found.own_version, schema_version.TAWARA)]
    if found.orphans:
        steps.append(f"forgets the media types of {found.orphans} files that are deleted")
    if widen:
        steps += [f"widens {place} from {now} to {then}" for place, (now, then) in found.widening.items()]
    return steps


async def adopt(tx: Transaction, *, widen: bool, now: int) -> list[str]:
    """Add Tawara's tables, and widen columns if `widen`; return what was done. Idempotent.

    Raises ConfigurationError, having changed nothing, if the database has obstacles to adoption.
    """
    found = await examine(tx)
    if found.obstacles:
        raise ConfigurationError("; ".join(found.obstacles))
    made_by_mogilefs = found.adopted or found.own_version == 0
    if made_by_mogilefs and not found.adopted:
        await runs.set_all(tx, {ADOPTED: now})
    done = await migrations.migrate(tx, to=schema_version.TAWARA)
    if found.orphans:
        for table in ("tawara_mtime", "tawara_file"):
            done.append(await _run(tx, f"DELETE FROM {table} WHERE {orphaned(table)}"))
    if widen and made_by_mogilefs and found.widening:
        columns = await catalogue.columns(tx)
        # Recorded first: where DDL commits implicitly, a widened column is always on record.
        await runs.set_all(
            tx,
            {
                WIDENED: json.dumps(
                    {place: before for place, (before, _) in found.widening.items()} | dict(found.widened)
                )
            },
        )
        for place, (_, then) in found.widening.items():
            done.append(await _run(tx, catalogue.retype(tx.dialect, columns[place], then)))
    return done


async def _run(tx: Transaction, statement: str) -> str:
    await tx.run(statement)
    return statement


# --- leaving ----------------------------------------------------------------------------------------------------------


def refuse_undo(found: AdoptionFindings) -> None:
    """Raise ConfigurationError for a database that MogileFS did not create: mogilefsd could not continue with it."""
    if found.own_version and not found.adopted:
        raise ConfigurationError(
            "The database was made by Tawara, not adopted: there is nothing to go back to",
            hint="Copy the files into a MogileFS by `tawara get -r`.",
        )


def planned_undo(found: AdoptionFindings) -> list[str]:
    """Describe what leaving would do; empty if the database has nothing of Tawara's."""
    steps: list[str] = []
    if found.copies:
        steps.append(f"deletes the bytes of {found.copies} copies that were not completed from their devices")
    if found.unknown_checksums:
        steps.append(
            f"removes the checksums that MogileFS does not know of {found.unknown_checksums} classes and files"
        )
    steps += [f"narrows {place} to {type_} again" for place, type_ in found.widened.items()]
    if found.own_version:
        lost = f", and with them the media types of {found.media_types} files" if found.media_types else ""
        steps.append(f"drops the tables {PREFIX}*{lost}")
    if found.own_version or found.adopted:
        steps.append(f"removes the settings {PREFIX}*, but for those by which the devices recognise this database")
    return steps


async def settle_copies(tx: Transaction, *, now: int) -> list[tuple[int, int]]:
    """Drop the reservations of recorded replicas; return the others, as (fid, devid).

    Each of these may have left unrecorded bytes on a device: it stays reserved, and the caller must clean up. Not even
    those of deleted files are queued for deletion: mogilefsd may be about to queue the same fid, see
    `replicas.record_copy`. Raises InUse while a lease is active.
    """
    if "tawara_copy" not in await catalogue.tables(tx):
        return []
    under_way = await count(tx, "tawara_copy", f"lease > {int(now)}")
    if under_way:
        raise InUse(
            f"{under_way} copies are under way",
            hint="Stop all of Tawara on this database, wait until their leases have run out (a minute), and try again.",
        )
    replica = "SELECT 1 FROM file_on o WHERE o.fid = tawara_copy.fid AND o.devid = tawara_copy.devid"
    await tx.run(f"DELETE FROM tawara_copy WHERE EXISTS ({replica})")
    return [(fid, devid) for fid, devid in await tx.rows("SELECT fid, devid FROM tawara_copy ORDER BY fid, devid")]


async def forget_copies(tx: Transaction, copies: Sequence[tuple[int, int]]) -> None:
    """Drop the reservations of these (fid, devid), which the caller has cleaned up."""
    await tx.run_many("DELETE FROM tawara_copy WHERE fid = ? AND devid = ?", copies)


async def undo(tx: Transaction) -> list[str]:
    """Restore the database's state before `adopt`, except for the files; return what was done. Idempotent.

    If devices are marked with the database's epochs, these are kept, so that it is recognised if it is adopted again.

    Raises InUse, having changed nothing, if copies are reserved or rows do not fit the original columns.
    """
    version = await migrations.version(tx)
    tables = await catalogue.tables(tx)
    if version and "tawara_copy" in tables and await count(tx, "tawara_copy"):
        raise InUse("tawara_copy has rows; let the workers finish what they have begun, then try again")
    before = widened(await runs.settings(tx, PREFIX))
    columns = await catalogue.columns(tx)
    narrow = {place: type_ for place, type_ in before.items() if columns[place].type != type_}
    await catalogue.refuse_values_too_large(tx, narrow)
    done = [await _run(tx, catalogue.retype(tx.dialect, columns[place], type_)) for place, type_ in narrow.items()]
    unknown = [
        f"UPDATE class SET hashtype = NULL WHERE {UNKNOWN_TO_MOGILEFS}",
        f"DELETE FROM checksum WHERE {UNKNOWN_TO_MOGILEFS}",
    ]
    done += [each for each in unknown if await tx.run(each)]
    done += await migrations.migrate(tx, to=0)
    kept = await epochs.keep_lineage(tx)
    fields = [row[0] for row in await tx.rows("SELECT field FROM server_settings")]
    ours = [(each,) for each in fields if each.startswith(PREFIX) and each not in kept]
    await tx.run_many("DELETE FROM server_settings WHERE field = ?", ours)
    return done
