"""`tawara rm`: delete files."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session, file_at, keys_below, place
from tawara.cli.transfers import TransferResult, Verbose, each
from tawara.cli.usage import MissingArgument
from tawara.client import AsyncClient
from tawara.model import errors

_AT_ONCE = 8


async def rm(
    *names: str,
    recursive: Annotated[bool, Parameter(name=["--recursive", "-r"])] = False,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"])] = False,
    dry_run: Annotated[bool, Parameter(name=["--dry-run", "-n"])] = False,
    verbose: Verbose = False,
    session: Session = DEFAULT,
) -> int:
    """Delete files.

    With -r, every key that begins with a prefix, after confirmation on a terminal; elsewhere --yes is required.

    For example:

        tawara rm photos/cat.jpg photos/dog.jpg
        tawara rm -r files/backup/2024/
        tawara rm -r --dry-run files/backup/2024/

    Parameters
    ----------
    names
        DOMAIN/KEY, or with -r DOMAIN/PREFIX.
    recursive
        Every key that begins with the prefix.
    yes
        Do not ask for confirmation.
    dry_run
        Only say what would be deleted.
    """
    async with session.client() as client:
        if not names:
            raise MissingArgument("rm", "DOMAIN/KEY... | -r DOMAIN/PREFIX", missing="argument: DOMAIN/KEY")
        doomed = [file for name in names for file in await _named(client, name, recursive=recursive)]
        if dry_run:
            for domain, key in doomed:
                await client.info(domain, key)
                if session.json:
                    output.json_line(TransferResult("would delete", "", domain, key).fields())
                else:
                    output.line(output.shown(f"{domain}/{key}"))
            return 0
        if recursive and not yes:
            await _ask(len(doomed), names)

        async def delete(item: tuple[str, str]) -> TransferResult:
            await client.delete(*item)
            return TransferResult("deleted", "", *item)

        def failed(item: tuple[str, str], error: errors.TawaraError | OSError) -> TransferResult:
            return TransferResult("failed", "", *item, error=error)

        return await each(doomed, delete, failed, at_once=_AT_ONCE, as_json=session.json, verbose=verbose)


async def _named(client: AsyncClient, name: str, *, recursive: bool) -> list[tuple[str, str]]:
    """Domain and key of each file to delete. Raises UsageError, UnknownKey."""
    if not recursive:
        return [await file_at(client, name)]
    domain, prefix = await place(client, name)
    return [(domain, found) for found in await keys_below(client, domain, prefix)]


async def _ask(count: int, names: tuple[str, ...]) -> None:
    """Ask for confirmation. Raises UsageError unless the user confirms."""
    files = "1 file" if count == 1 else f"{count} files"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise errors.UsageError(f"{files} would be deleted", hint="There is no terminal to confirm on: use --yes.")
    sys.stderr.write(f"Delete {files} of {output.printable(', '.join(names))}? [y/N] ")
    sys.stderr.flush()
    answer = await asyncio.to_thread(sys.stdin.readline)
    if answer.strip().lower() not in ("y", "yes"):
        raise errors.UsageError("Nothing was deleted")
