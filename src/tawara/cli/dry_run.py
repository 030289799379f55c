"""Dry runs of what removes: what would happen, or why it would be refused."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.session import Session
from tawara.client import AsyncClient
from tawara.model.errors import Exit
from tawara.wire.line import Value

DryRun: TypeAlias = Annotated[bool, Parameter(name=["--dry-run", "-n"], help="Only say what would happen.")]


async def show(client: AsyncClient, session: Session, what: str, **names: Value) -> int:
    """Say what removing something would mean; the exit code that the removal would have."""
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
