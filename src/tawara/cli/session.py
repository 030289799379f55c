"""What every command that speaks with a store has: the trackers, --json, a client, and domains named in errors."""

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
    """The options that all these commands share."""

    tracker: Annotated[
        str,
        Parameter(
            name="--tracker",
            env_var="TAWARA_TRACKERS",
            show_default=True,
            help="Trackers to ask, HOST:PORT, several with commas between.",
        ),
    ] = HERE
    json: Annotated[bool, Parameter(name="--json", help="One JSON object a line.")] = False

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncClient]:
        """A client of the store; an unknown domain becomes an error that names those there are."""
        async with AsyncClient(self.tracker) as client:
            try:
                yield client
            except errors.UnregDomain as error:
                raise errors.UnregDomain(error.message, hint=await domain_hint(client)) from error


DEFAULT = Session()


async def domain_hint(client: AsyncClient) -> str:
    """A sentence that names the domains there are."""
    names = [each.name for each in await client.domains()]
    return f"Domains: {', '.join(names)}." if names else "There is no domain yet; `tawara domain add NAME` makes one."


async def place(client: AsyncClient, text: str | None) -> tuple[str, str]:
    """`DOMAIN/KEY` taken apart, at the first slash. Raises UsageError with the domains there are when it is missing."""
    domain, _, key = (text or "").partition("/")
    if not domain:
        raise errors.UsageError("Which domain? Say DOMAIN/KEY", hint=await domain_hint(client))
    return domain, key


async def file_at(client: AsyncClient, text: str | None) -> tuple[str, str]:
    """The same, of a single file. Raises UsageError also for a whole domain, UnregDomain."""
    domain, key = await place(client, text)
    if not key:
        await client.classes(domain)  # the domain may be wrong instead
        raise errors.UsageError(
            f"{domain} is a domain, and no file", hint=f"Say DOMAIN/KEY; `tawara ls {domain}` lists the keys."
        )
    return domain, key


async def keys_below(client: AsyncClient, domain: str, prefix: str) -> list[str]:
    """All keys that begin with `prefix`. Raises UnknownKey if there is none, UnregDomain."""
    found = [key async for key in client.list_keys(domain, prefix)]
    if not found:
        await client.classes(domain)  # the domain may be wrong instead
        raise errors.UnknownKey(f"No key of {domain} begins with {prefix!r}")
    return found
