"""Removal of hosts, devices, domains, classes and settings, and its dry run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.session import Session
from tawara.client import AsyncClient
from tawara.model.errors import Exit
from tawara.wire.line import Args

DryRun: TypeAlias = Annotated[bool, Parameter(name=["--dry-run", "-n"], help="Only show what would happen.")]


async def remove_or_preview(
    session: Session, what: str, names: Args, removal: Callable[[AsyncClient], Awaitable[None]], *, dry_run: bool
) -> int:
    """Remove the `what` of these `names`, or only print what would happen, with the exit code of the removal."""
    async with session.client() as client:
        if not dry_run:
            await removal(client)
            return Exit.OK
        found = await client.removal(what, names)
    if session.json:
        refusal = found.refusal.code if found.refusal else None
        output.json_line({"what": what, **names, "refused": refusal, "sentences": found.sentences})
    else:
        for each in found.sentences:
            output.line(output.shown(f"{each}."))
        if found.refusal:
            output.line("It would be refused.")
    return found.refusal.exit if found.refusal else Exit.OK
