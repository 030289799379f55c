"""`tawara cp`: copy stored files."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from tawara.cli.plan import PlannedCopy, copies
from tawara.cli.session import DEFAULT, Session, file_at, keys_below, place
from tawara.cli.transfers import Jobs, TransferResult, Verbose, each
from tawara.cli.usage import MissingArgument
from tawara.client import AsyncClient
from tawara.model import errors


async def cp(
    *names: str,
    recursive: Annotated[bool, Parameter(name=["--recursive", "-r"])] = False,
    storage_class: Annotated[str | None, Parameter(name=["--class", "-c"])] = None,
    jobs: Jobs = 8,
    verbose: Verbose = False,
    session: Session = DEFAULT,
) -> int:
    """Copy stored files to other keys.

    `tawara cp DOMAIN/KEY... DOMAIN/KEY`. A target KEY that is empty or ends in `/` is a prefix: files are copied below
    it under their names. An existing file at the target is replaced, as by `put`. With -r every key that begins with a
    prefix is copied; the part of the prefix after its last `/` stays part of the new keys.

    The copy has the checksum, media type and modification time of its source. Storage nodes copy on the device that
    holds the source, without network traffic, if the new file may be stored there; with XFS and btrfs even without
    copying. Further copies are made by the workers.

    For example:

        tawara cp photos/cat.jpg photos/pets/
        tawara cp photos/cat.jpg archive/2026/cat.jpg --class cold
        tawara cp -r files/backup/ files/backup-of-may/

    Parameters
    ----------
    names
        The files to copy, then the target, each as DOMAIN/KEY; with -r prefixes.
    recursive
        Copy every key that begins with the prefix.
    storage_class
        Storage class of the copies; default: the class of that name which the source has.
    """
    async with session.client() as client:
        if len(names) < 2:
            raise MissingArgument("cp", "DOMAIN/KEY... DOMAIN/KEY", missing="arguments")
        *sources, where = names
        domain, target = await place(client, where)
        found = [each for name in sources for each in await _found(client, name, recursive=recursive)]
        planned = copies(found, domain, target, single=len(sources) == 1 and not recursive)

        async def copy(item: PlannedCopy) -> TransferResult:
            stored = await client.copy(item.domain, item.key, domain, item.new_key, storage_class=storage_class)
            return TransferResult("copied", item.source, domain, item.new_key, stored.length, stored.fid)

        def failed(item: PlannedCopy, error: errors.TawaraError | OSError) -> TransferResult:
            return TransferResult("failed", item.source, domain, item.new_key, error=error)

        return await each(planned, copy, failed, at_once=max(1, jobs), as_json=session.json, verbose=verbose)


async def _found(client: AsyncClient, name: str, *, recursive: bool) -> list[tuple[str, str, str]]:
    """Return domain, key and the part of the key that the new one has, of each file. Raises UsageError, UnknownKey."""
    if not recursive:
        domain, key = await file_at(client, name)
        return [(domain, key, key.rpartition("/")[2])]
    domain, prefix = await place(client, name)
    keys = await keys_below(client, domain, prefix)
    return [(domain, key, key[prefix.rfind("/") + 1 :]) for key in keys]
