"""`tawara drill`: rebuild into a scratch database, and compare it with the live one (docs/recovery.md)."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter, validators

from tawara.cli import output, recovery_output
from tawara.cli.database import HERE, Database
from tawara.model.errors import Exit
from tawara.nodes.client import NodeClient
from tawara.recovery.drill import run_drill
from tawara.recovery.reports import drill_report


def drill(
    *,
    sample: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    look: bool = False,
    json: bool = False,
    database: Database = HERE,
) -> int:
    """Check the journals on the devices: rebuild into a scratch database, and compare it with the live one.

    The store keeps running, and nothing in it is changed. The exit code is 7 if there is a difference, 1 if a
    device could not be read, or there is none. For example:

        tawara drill -c /etc/tawara/tawara.toml --sample 2

    Parameters
    ----------
    sample
        Only so many devices, chosen at random, instead of all.
    look
        Also check that the data exists, and search for data without a row in the database.
    json
        Report all as one JSON object.
    """
    return asyncio.run(_drill(sample, look, database, json=json))


async def _drill(sample: int | None, look: bool, database: Database, *, json: bool) -> int:
    shown = output.ChangingLine()
    async with database.open() as metadata, NodeClient(signer=database.signer()) as nodes:
        found = await run_drill(metadata, nodes, sample=sample, look=look, progress=shown.say)
    shown.clear()
    report = drill_report(found)
    if json:
        output.json_line(report)
    else:
        recovery_output.print_drill(report)
    if found.wrong:
        return Exit.CORRUPT
    return Exit.FAILURE if report["silent"] or report["damaged"] or not report["devices"] else Exit.OK
