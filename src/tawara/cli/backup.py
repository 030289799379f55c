"""`tawara backup` and `tawara restore`: the database in a directory of plain files, and back into any engine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from tawara.cli import output
from tawara.cli.database import HERE, TIMEOUT, Database
from tawara.cli.log import configure_command
from tawara.cli.vault import Listing, Part, Vault, files_in, summary
from tawara.metadata import backup as rows
from tawara.metadata import rebuilding
from tawara.metadata.backup import Chunk
from tawara.metadata.open import open_metadata
from tawara.model.errors import Exit, UsageError


def backup(
    directory: Path,
    /,
    *,
    keep: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    json: bool = False,
    database: Database = HERE,
) -> int:
    """Write all that the database has of one moment into a directory; a later backup there writes only what changed.

    The store goes on meanwhile. What the devices hold is not part of it. For example:

        tawara backup /srv/backup -c /etc/tawara/tawara.toml --keep 30

    Parameters
    ----------
    directory
        Where the backups are.
    keep
        Remove all but so many of the newest backups afterwards; the newest that has files always stays.
    yes
        Keep the backup also if it has far fewer files than the one before (less than half).
    json
        Report as one JSON object.
    """
    return asyncio.run(_backup(Vault(directory), keep, database, yes=yes, json=json))


async def _backup(vault: Vault, keep: int | None, database: Database, *, yes: bool, json: bool) -> int:
    parts: dict[tuple[str, int], Part] = {}
    shown = output.ChangingLine()

    def sink(chunk: Chunk) -> None:
        parts[chunk.table, chunk.first] = vault.keep_chunk(chunk)
        shown.say(f"{sum(part.rows for part in parts.values()):,} rows written")

    began = int(time.time())
    async with database.open() as metadata:
        vault.prepare()
        highest_fid = await metadata.read(rows.dump, sink)
    shown.clear()
    number = max(vault.numbers(), default=0) + 1
    listing = Listing(number=number, taken_at=began, highest_fid=highest_fid, parts=list(parts.values()))
    if not yes:
        _refuse_if_shrunk(vault, listing)
    vault.keep_list(listing)
    removed = vault.prune(keep) if keep else []
    report = summary(listing) | {"written": vault.written, "removed": removed}
    if json:
        output.json_line(report)
    else:
        files = report["rows"].get("file", 0)
        output.line(f"Backup {number}: {files:,} files; {output.human_size(vault.written)} were new.")
    return Exit.OK


def _refuse_if_shrunk(vault: Vault, listing: Listing) -> None:
    """Raise UsageError, and leave nothing behind, if the database is likely not the one that was meant."""
    last = vault.newest()
    before, now = files_in(last), files_in(listing)
    if last is not None and now < before / 2:
        vault.discard()
        raise UsageError(
            f"The database has {now:,} files, and backup {last.number} had {before:,}: no backup was made",
            hint="Is it the right database? If so, say --yes.",
        )


def restore(
    directory: Path,
    url: str,
    /,
    *,
    number: int | None = None,
    password_file: Annotated[Path | None, Parameter(name="--password-file")] = None,
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Fill an empty database, of whatever engine, from a backup.

    For example:

        tawara restore /srv/backup postgresql://tawara@db/tawara

    Parameters
    ----------
    directory
        Where the backups are.
    url
        The new database.
    number
        Which backup, instead of the newest.
    password_file
        File with the password of the database, else TAWARA_DB_PASSWORD.
    dry_run
        Only see whether the backup is whole.
    json
        Report as one JSON object.
    """
    return asyncio.run(_restore(Vault(directory), url, number, password_file, dry_run=dry_run, json=json))


async def _restore(
    vault: Vault, url: str, number: int | None, password_file: Path | None, *, dry_run: bool, json: bool
) -> int:
    configure_command()
    listing = vault.listing(number)
    shown = output.ChangingLine()
    for each, _ in enumerate(vault.chunks(listing), 1):  # every checksum is looked at before anything is written
        shown.say(f"{each:,} of {len(listing.parts):,} chunks verified")
    if not dry_run:
        metadata = await open_metadata(url, password_file=password_file, pace=TIMEOUT)
        try:
            await metadata.write(rebuilding.begin)
            small: dict[str, Chunk] = {}
            for each, chunk in enumerate(vault.chunks(listing), 1):
                shown.say(f"{each:,} of {len(listing.parts):,} chunks restored")
                if rows.is_small(chunk.table):
                    small[chunk.table] = chunk
                else:
                    await metadata.write(rows.load, chunk)
            await metadata.write(rows.finish, small, highest_fid=listing.highest_fid)
        finally:
            await metadata.close()
    shown.clear()
    report = summary(listing) | {"dry_run": dry_run}
    if json:
        output.json_line(report)
        return Exit.OK
    files = report["rows"].get("file", 0)
    taken = output.local_time(listing.taken_at)
    output.line(f"Backup {listing.number} of {taken}, whole: {files:,} files{'' if dry_run else ' are restored'}.")
    if not dry_run:
        output.line(
            "What was stored or deleted after that is as it was then; the devices know it. Nothing is written to them"
            f" until this is done: tawara rebuild {url} --merge"
        )
    return Exit.OK
