"""`tawara backup` and `tawara restore`: save the database as files in a directory, restore it into any engine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from tawara.cli import output
from tawara.cli.database import HERE, TIMEOUT, Database
from tawara.cli.log import configure_command
from tawara.metadata import backup as rows
from tawara.metadata import rebuilding
from tawara.metadata.backup import Chunk
from tawara.metadata.open import open_metadata
from tawara.model.errors import Exit, UsageError
from tawara.recovery.backup_directory import BackupDirectory, Listing, Part, files_in, summary


def backup(
    directory: Path,
    /,
    *,
    keep: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    json: bool = False,
    database: Database = HERE,
) -> int:
    """Write a consistent snapshot of the database into a directory; a later backup there writes only what changed.

    The store keeps running. The files on devices are not part of the backup. For example:

        tawara backup /srv/backup -c /etc/tawara/tawara.toml --keep 30

    Parameters
    ----------
    directory
        Directory of the backups.
    keep
        Afterwards remove all but this number of backups, the newest; the newest that has files is always kept.
    yes
        Make the backup even if it has less than half of the files of the one before.
    json
        Report as one JSON object.
    """
    return asyncio.run(_backup(BackupDirectory(directory), keep, database, yes=yes, json=json))


async def _backup(directory: BackupDirectory, keep: int | None, database: Database, *, yes: bool, json: bool) -> int:
    parts: dict[tuple[str, int], Part] = {}
    shown = output.ChangingLine()

    def sink(chunk: Chunk) -> None:
        parts[chunk.table, chunk.first] = directory.keep_chunk(chunk)
        shown.say(f"{sum(part.rows for part in parts.values()):,} rows written")

    began = int(time.time())
    async with database.open() as metadata:
        directory.prepare()
        highest_fid = await metadata.read(rows.dump, sink)
    shown.clear()
    number = max(directory.numbers(), default=0) + 1
    listing = Listing(number=number, taken_at=began, highest_fid=highest_fid, parts=list(parts.values()))
    if not yes:
        _refuse_if_shrunk(directory, listing)
    directory.keep_list(listing)
    removed = directory.prune(keep) if keep else []
    report = summary(listing) | {"written": directory.written, "removed": removed}
    if json:
        output.json_line(report)
    else:
        files = report["rows"].get("file", 0)
        output.line(f"Backup {number}: {files:,} files; {output.human_size(directory.written)} were new.")
    return Exit.OK


def _refuse_if_shrunk(directory: BackupDirectory, listing: Listing) -> None:
    """Remove the backup and raise UsageError if the database is probably the wrong one."""
    last = directory.newest()
    before, now = files_in(last), files_in(listing)
    if last is not None and now < before / 2:
        directory.discard()
        raise UsageError(
            f"The database has {now:,} files, and backup {last.number} had {before:,}: no backup was made",
            hint="If it is the right database, use --yes.",
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
    """Restore a backup into an empty database of any engine.

    For example:

        tawara restore /srv/backup postgresql://tawara@db/tawara

    Parameters
    ----------
    directory
        Directory of the backups.
    url
        The new database.
    number
        The number of the backup; default: the newest.
    password_file
        File with the password of the database; default: TAWARA_DB_PASSWORD.
    dry_run
        Only verify that the backup is complete.
    json
        Report as one JSON object.
    """
    return asyncio.run(_restore(BackupDirectory(directory), url, number, password_file, dry_run=dry_run, json=json))


async def _restore(
    directory: BackupDirectory, url: str, number: int | None, password_file: Path | None, *, dry_run: bool, json: bool
) -> int:
    configure_command()
    listing = directory.listing(number)
    shown = output.ChangingLine()
    for each, _ in enumerate(directory.chunks(listing), 1):  # verify every checksum before anything is written
        shown.say(f"{each:,} of {len(listing.parts):,} chunks verified")
    if not dry_run:
        metadata = await open_metadata(url, password_file=password_file, pace=TIMEOUT)
        try:
            await metadata.write(rebuilding.begin)
            small: dict[str, Chunk] = {}
            for each, chunk in enumerate(directory.chunks(listing), 1):
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
    output.line(f"Backup {listing.number} of {taken}, complete: {files:,} files{'' if dry_run else ' are restored'}.")
    if not dry_run:
        output.line(
            "Changes after that are missing here but recorded on the devices. Nothing is written to them"
            f" until you run: tawara rebuild {url} --merge"
        )
    return Exit.OK
