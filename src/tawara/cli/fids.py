"""`tawara fids`: show the counter of fids, and bring it back where a number from outside has taken it too far."""

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
    """Show where the counter of fids stands, and with --reset bring it back.

    When the counter is at its end, no file can be stored any more. It gets there by a fid that someone asked for, not
    by counting. A reset has it go on a million beyond the highest fid that was given out by counting; files with
    greater ones are kept. Uploads that are open with greater ones are given up. For example:

        tawara fids -c /etc/tawara/tawara.toml

        tawara fids -c /etc/tawara/tawara.toml --reset

    Parameters
    ----------
    reset
        Bring the counter back, if it stands too far.
    to
        With --reset, count on after this number, wherever the counter stands: for a database of MogileFS, whose columns
        end sooner.
    json
        Report as one JSON object.
    """
    if to is not None and not reset:
        raise UsageError("--to goes with --reset", hint="tawara fids --reset --to NUMBER")
    return asyncio.run(_fids(database, reset=reset, to=to, json=json))


async def _fids(database: Database, *, reset: bool, to: int | None, json: bool) -> int:
    async with database.open() as metadata:
        before = await metadata.read(fid_counter.look)
        wanted = before.reset_to if to is None else to
        done = reset and (before.is_too_far or to is not None)
        if done:
            await metadata.write(fid_counter.reset, wanted, now=await metadata.clock.seconds())
        found = await metadata.read(fid_counter.look)
    if json:
        output.json_line(asdict(found) | {"too_far": found.is_too_far, "reset": done})
    else:
        _say(found, before if done else None)
    return Exit.FAILURE if found.is_too_far else Exit.OK


def _say(found: FidCounter, before: FidCounter | None) -> None:
    output.line(f"The highest fid given out is {found.highest}; the counter stands at {found.counter}.")
    if found.files_beyond:
        output.line(f"{found.files_beyond:,} files have greater fids, which were asked for; they are kept.")
    if before is not None:
        output.line(f"The counter was at {before.counter}; {before.uploads_beyond:,} open uploads were given up.")
    elif found.is_too_far:
        output.line("The counter is beyond what counting can reach. Bring it back: tawara fids --reset")
