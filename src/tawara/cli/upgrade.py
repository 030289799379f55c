"""`tawara upgrade`: migrate Tawara's own tables to the version of this program."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.database import HERE, Database
from tawara.metadata import migrations, schema_version
from tawara.metadata.creation import check_not_newer
from tawara.model.errors import ConfigurationError, Exit


def upgrade(
    *,
    dry_run: Annotated[bool, Parameter(name="--dry-run", negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    database: Database = HERE,
) -> int:
    """Migrate the database of an older Tawara.

    Stop all daemons of the store before, and make a backup: an older Tawara does not start on the database afterwards.
    Only tables of Tawara's own are changed (tawara_*). Another call continues an interrupted upgrade. For example:

        tawara upgrade -c /etc/tawara/tawara.toml --dry-run

        tawara upgrade -c /etc/tawara/tawara.toml

        tawara upgrade --database postgresql://tawara@db/store

    Parameters
    ----------
    dry_run
        Only show the planned changes.
    json
        Report as one JSON object.
    """
    return asyncio.run(_upgrade(database, dry_run=dry_run, json=json))


async def _upgrade(database: Database, *, dry_run: bool, json: bool) -> int:
    newest = schema_version.TAWARA
    async with database.open(any_version=True) as metadata:
        before = await metadata.read(migrations.version)
        if before == 0:
            raise ConfigurationError(
                "The database is one of MogileFS, and has none of the tables that Tawara adds",
                hint="`tawara adopt` shows what it would add, and adds it with --yes.",
            )
        check_not_newer(str(before))
        steps = [step.summary for step, _ in migrations.route(before, newest)]
        if steps and not dry_run:
            await metadata.write(migrations.migrate, to=newest)
    report: dict[str, Any] = {"version": before, "newest": newest, "steps": steps, "done": bool(steps) and not dry_run}
    if json:
        output.json_line(report)
        return Exit.OK
    if not steps:
        output.line(f"The database is up to date (version {newest}).")
        return Exit.OK
    output.line(f"Version {before} to {newest}:" if dry_run else f"Brought from version {before} to {newest}:")
    for step in steps:
        output.line(f"  {step}")
    return Exit.OK
