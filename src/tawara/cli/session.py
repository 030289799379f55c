"""Options and functions shared by commands that use a store: trackers, --json, client, parsing of DOMAIN/KEY."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from tawara.client import AsyncClient
from tawara.client.trackers import HERE
from tawara.model import errors


@Parameter(name="*")
@dataclass(frozen=True)
class Session:
    """The options of all these commands."""

    tracker: Annotated[
        str,
        Parameter(
            name="--tracker",
            env_var="TAWARA_TRACKERS",
            show_default=True,
            help="Trackers, HOST:PORT, separated by commas.",
        ),
    ] = HERE
    json: Annotated[bool, Parameter(name="--json", help="One JSON object a line.")] = False

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        """A client of the store; the error for an unknown domain names the existing ones."""
        async with AsyncClient(self.tracker) as client:
            try:
                yield client
            except errors.UnregDomain as error:
                raise errors.UnregDomain(error.message, hint=await domain_hint(client)) from error


DEFAULT = Session()


async def domain_hint(client: AsyncClient) -> str:
    """Return a sentence that names the existing domains."""
    names = [each.name for each in await client.domains()]
    return f"Domains: {', '.join(names)}." if names else "No domain exists yet; add one with `tawara domain add NAME`."


async def place(client: AsyncClient, text: str | None) -> tuple[str, str]:
    """Split `DOMAIN/KEY` at the first slash. Raises UsageError, which names the existing domains, without a domain."""
    domain, _, key = (text or "").partition("/")
    if not domain:
        raise errors.UsageError("Missing domain: write DOMAIN/KEY", hint=await domain_hint(client))
    return domain, key


async def file_at(client: AsyncClient, text: str | None) -> tuple[str, str]:
    """Split `DOMAIN/KEY` of a single file. Raises UsageError, also for a whole domain, and UnregDomain."""
    domain, key = await place(client, text)
    if not key:
        await client.classes(domain)  # raises UnregDomain if the domain is unknown
        raise errors.UsageError(
            f"{domain} is a domain, not a file", hint=f"Write DOMAIN/KEY; `tawara ls {domain}` lists the keys."
        )
    return domain, key


async def keys_below(client: AsyncClient, domain: str, prefix: str) -> list[str]:
    """Return all keys that begin with `prefix`. Raises UnknownKey if none exists, UnregDomain."""
    found = [key async for key in client.list_keys(domain, prefix)]
    if not found:
        await client.classes(domain)  # raises UnregDomain if the domain is unknown
        raise errors.UnknownKey(f"No key of {domain} begins with {prefix!r}")
    return found
