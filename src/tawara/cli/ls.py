"""`tawara ls`: list the domains, or the keys of one domain."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session
from tawara.cli.transfers import in_order
from tawara.client import AsyncClient, FileInfo
from tawara.model import errors

_AT_ONCE = 8


async def ls(
    where: str = "",
    /,
    *,
    long: Annotated[bool, Parameter(name=["--long", "-l"])] = False,
    session: Session = DEFAULT,
) -> int:
    """List domains, or the keys of a domain that begin with a prefix.

    For example:

        tawara ls
        tawara ls -l photos/2026/
        tawara ls files --json | jq -r .key

    Parameters
    ----------
    where
        DOMAIN or DOMAIN/PREFIX; default: list the domains.
    long
        Also show copies, class, size and time.
    """
    async with session.client() as client:
        if not where:
            await _domains(client, session)
            return 0
        domain, _, prefix = where.partition("/")
        count = 0
        if long:
            count = await _long(client, domain, prefix, session)
        else:
            async for key in client.list_keys(domain, prefix):
                count += 1
                if session.json:
                    output.json_line({"domain": domain, "key": key})
                else:
                    output.line(output.shown(key))
        if not count and prefix:
            raise errors.UnknownKey(f"No key of {domain} begins with {prefix!r}")
    return 0


async def _domains(client: AsyncClient, session: Session) -> None:
    for domain in await client.domains():
        if session.json:
            output.json_line({"domain": domain.name, "classes": [each.name for each in domain.classes]})
        else:
            output.line(output.shown(domain.name))


async def _long(client: AsyncClient, domain: str, prefix: str, session: Session) -> int:
    async def describe(key: str) -> FileInfo | None:
        try:
            return await client.info(domain, key)
        except errors.UnknownKey:  # deleted after it was listed
            return None

    count = 0
    async for info in in_order(client.list_keys(domain, prefix), describe, _AT_ONCE):
        if info is None:
            continue
        count += 1
        if session.json:
            output.json_line(fields(info))
        else:
            size = output.human_size(info.length) if sys.stdout.isatty() else str(info.length)
            when = output.local_time(info.stored_at)
            output.line(f"{info.copies:>2} {info.storage_class:<10} {size:>10} {when:<19} {output.shown(info.key)}")
    return count


def fields(info: FileInfo) -> dict[str, object]:
    """Return a file's fields for JSON."""
    return {
        "domain": info.domain,
        "key": info.key,
        "fid": info.fid,
        "size": info.length,
        "class": info.storage_class,
        "copies": info.copies,
        "stored_at": info.stored_at,
        "checksum": str(info.checksum) if info.checksum else None,
    }
