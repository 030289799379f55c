"""`tawara rebuild`: create a database from the disks alone, or merge them into an older one (docs/recovery.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import output, recovery_output
from tawara.cli.assembly import open_signer
from tawara.cli.devid import Devid
from tawara.cli.log import configure_command
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_metadata
from tawara.metadata.server import ServerLimits
from tawara.model.errors import Exit, UsageError
from tawara.nodes.signing import RequestSigner
from tawara.recovery import merge as merging
from tawara.recovery import rebuild as rebuilding
from tawara.recovery import reports

TIMEOUT = ServerLimits(readers=1, writers=1, answer=3600.0)


def rebuild(
    url: str,
    /,
    *devices: str,
    only: bool = False,
    trust: bool = False,
    password_file: Annotated[Path | None, Parameter(name="--password-file")] = None,
    merge: bool = False,
    ignore: tuple[Devid, ...] = (),
    key_file: Annotated[Path | None, Parameter(name="--key-file")] = None,
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Create a new database from the journals on the devices.

    One device is enough to begin with, since it lists all others. The database must be empty. Conflicts that cannot be
    resolved are listed, and nothing is changed for them. For example:

        tawara rebuild sqlite:///var/lib/tawara/tawara.db http://10.0.0.11:7500/dev1

        tawara rebuild postgresql://tawara@db/tawara /srv/devices http://10.0.0.12:7500/dev3 --dry-run

    With --merge: add what the devices have to a database that was reset to an earlier state (by a backup, a snapshot,
    or a standby that lacked the last transactions). No daemon writes meanwhile:

        tawara rebuild postgresql://tawara@db/tawara --merge

    Parameters
    ----------
    url
        The new database.
    devices
        http://HOST:PORT/devN, a local directory devN, or a directory that contains such directories.
    only
        Read no other devices than those given.
    trust
        Do not check that the files exist; `tawara fsck` can do that later.
    password_file
        A file with the password of the database, else TAWARA_DB_PASSWORD.
    merge
        Keep the database, and restore the files that it has lost.
    ignore
        With --merge: a device that is not read; may be repeated.
    key_file
        The installation's key file (keys.key), if the storage nodes require signed requests.
    dry_run
        Read everything and report, but write nothing.
    json
        Report all as one JSON object.
    """
    configure_command()
    signer = None if key_file is None else open_signer(key_file)
    if merge:
        return asyncio.run(
            _merge(
                url,
                devices,
                ignore=ignore,
                trust=trust,
                password_file=password_file,
                signer=signer,
                dry_run=dry_run,
                json=json,
            )
        )
    if ignore:
        raise UsageError(
            "--ignore requires --merge", hint="Without --merge, --only reads no other devices than those named."
        )
    if not devices:
        raise UsageError(
            "missing argument: DEVICE", hint="http://HOST:PORT/devN, or a directory that contains directories devN."
        )
    return asyncio.run(
        _rebuild(
            url, devices, only=only, trust=trust, password_file=password_file, signer=signer, dry_run=dry_run, json=json
        )
    )


async def _rebuild(
    url: str,
    devices: Sequence[str],
    *,
    only: bool,
    trust: bool,
    password_file: Path | None,
    signer: RequestSigner | None,
    dry_run: bool,
    json: bool,
) -> int:
    metadata: Metadata | None = None
    if not dry_run:
        metadata = await open_metadata(url, password_file=password_file, pace=TIMEOUT)
    shown = output.ChangingLine()
    try:
        restored, read = await rebuilding.rebuild(
            metadata, devices, only=only, trust=trust, signer=signer, progress=shown.say
        )
    finally:
        shown.clear()
        if metadata is not None:
            await metadata.close()
    report = reports.rebuild_report(read, restored) | {"dry_run": dry_run}
    if json:
        output.json_line(report)
    else:
        recovery_output.print_rebuild(report, url)
    return Exit.FAILURE if any(report[name] for name in ("silent", "damaged", "lost", "rivals")) else Exit.OK


async def _merge(
    url: str,
    devices: Sequence[str],
    *,
    ignore: Collection[int],
    trust: bool,
    password_file: Path | None,
    signer: RequestSigner | None,
    dry_run: bool,
    json: bool,
) -> int:
    metadata = await open_metadata(url, password_file=password_file, pace=TIMEOUT)
    shown = output.ChangingLine()
    try:
        merged, read = await merging.merge(
            metadata, devices, ignore=ignore, trust=trust, signer=signer, dry_run=dry_run, progress=shown.say
        )
    finally:
        shown.clear()
        await metadata.close()
    report = reports.merge_report(read, merged) | {"dry_run": dry_run, "complete": not (dry_run or read.silent)}
    if json:
        output.json_line(report)
    else:
        recovery_output.print_merge(report)
    return Exit.FAILURE if any(report[name] for name in ("silent", "damaged", "clashes", "without_bytes")) else Exit.OK
