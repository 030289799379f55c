"""`tawara fids`: show the fid counter, and reset it after a fid requested by a client advanced it too far."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.database import HERE, Database
from tawara.metadata import fid_counter
from tawara.metadata.fid_counter import FidCounter
from tawara.model.errors import Exit, UsageError


def fids(
    *,
    reset: Annotated[bool, Parameter(negative="")] = False,
    to: int | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
    database: Database = HERE,
) -> int:
    """Show the counter of fids, and with --reset set it back.

    When the counter is at its end, no file can be stored any more. This is caused by a fid that a client asked for, not
    by counting. A reset continues a million beyond the highest fid that was given out by counting; files with greater
    fids are kept, and open uploads with greater fids are given up. For example:

        tawara fids -c /etc/tawara/tawara.toml

        tawara fids -c /etc/tawara/tawara.toml --reset

    Parameters
    ----------
    reset
        Set the counter back, if it is too far.
    to
        With --reset, continue after this number, whatever the counter is: for a database of MogileFS, whose columns
        hold smaller numbers.
    json
        Report as one JSON object.
    """
    if to is not None and not reset:
        raise UsageError("--to requires --reset", hint="tawara fids --reset --to NUMBER")
    return asyncio.run(_fids(database, reset=reset, to=to, json=json))


async def _fids(database: Database, *, reset: bool, to: int | None, json: bool) -> int:
    async with database.open() as metadata:
        before = await metadata.read(fid_counter.read_counter)
        wanted = before.reset_to if to is None else to
        done = reset and (before.is_too_far or to is not None)
        if done:
            await metadata.write(fid_counter.reset, wanted, now=await metadata.clock.seconds())
        found = await metadata.read(fid_counter.read_counter)
    if json:
        output.json_line(asdict(found) | {"too_far": found.is_too_far, "reset": done})
    else:
        _say(found, before if done else None)
    return Exit.FAILURE if found.is_too_far else Exit.OK


def _say(found: FidCounter, before: FidCounter | None) -> None:
    output.line(f"The highest fid given out is {found.highest}; the counter is at {found.counter}.")
    if found.files_beyond:
        output.line(f"{found.files_beyond:,} files have greater fids, which clients asked for; they are kept.")
    if before is not None:
        output.line(f"The counter was at {before.counter}; {before.uploads_beyond:,} open uploads were given up.")
    elif found.is_too_far:
        output.line("The counter is beyond what counting can reach. Reset it: tawara fids --reset")
