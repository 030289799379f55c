"""The servers named by a database URL, and the order of trying them: `user@db1:3306,db2,[2001:db8::1]`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from tawara.metadata.pool import ConnectionLost, LimitMet
from tawara.model.errors import ConfigurationError

C = TypeVar("C")
REST: Final = 10.0
"""Seconds for which an unusable server is tried only after the others."""
_HOST: Final = re.compile(r"(?:\[(?P<bracketed>[0-9a-fA-F:.]+)\]|(?P<name>[^\[\]:]*))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A database server."""

    name: str
    """Host name or address; empty for the engine's default."""
    port: int | None = None
    """None for the engine's default."""

    def __str__(self) -> str:
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port is None else f"{name}:{self.port}"


def split_url(url: str) -> SplitResult:
    """Split a database URL into parts. Raises ConfigurationError."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"The database URL is not valid: {error}", hint=_HINT) from error


_HINT = "Write it as ENGINE://USER@HOST:PORT/DATABASE; several hosts have commas between them."


def hosts_of(parts: SplitResult) -> list[DatabaseServer]:
    """Return the servers in the order of the URL, at least one. Raises ConfigurationError."""
    hosts: list[DatabaseServer] = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        match = _HOST.fullmatch(unquote(text))
        port = int(match["port"]) if match is not None and match["port"] else None
        if match is None or (port is not None and not 0 < port < 65536):
            raise ConfigurationError(f"The database URL names {text!r}, which is not HOST:PORT", hint=_HINT)
        hosts.append(DatabaseServer(match["bracketed"] or match["name"], port))
    if len(hosts) > 1 and not all(host.name for host in hosts):
        raise ConfigurationError("The database URL has an empty name among its hosts", hint=_HINT)
    return hosts


class Servers(Generic[C]):
    """Connects to the first usable one of several servers."""

    def __init__(
        self, hosts: Sequence[DatabaseServer], connect: Callable[[DatabaseServer], Awaitable[C]], seconds: float
    ) -> None:
        """Set the servers to try. `seconds`: time limit for trying all of them.

        `connect` must raise ConnectionLost for a server that cannot be used now.
        """
        self._hosts = list(hosts)
        self._connect = connect
        self._seconds = max(1.0, seconds / len(hosts)) if len(hosts) > 1 else seconds
        self._skip_until: dict[DatabaseServer, float] = {}

    def _in_order(self) -> list[DatabaseServer]:
        now = asyncio.get_running_loop().time()
        return sorted(self._hosts, key=lambda host: self._skip_until.get(host, 0.0) > now)  # stable

    async def connect(self) -> C:
        """Connect to the first usable server.

        Raises ConnectionLost if no server can be used, LimitMet if one could but has no connection left, and any
        other exception of `connect`.
        """
        failures: list[str] = []
        limit_met = False
        for host in self._in_order():
            try:
                async with asyncio.timeout(self._seconds):
                    connection = await self._connect(host)
            except (ConnectionLost, TimeoutError) as error:
                if isinstance(error, LimitMet):
                    limit_met = True
                else:
                    self._skip_until[host] = asyncio.get_running_loop().time() + REST
                reason = str(error) or "no answer in time"
                failures.append(f"{host}: {reason}" if str(host) else reason)
            else:
                self._skip_until.pop(host, None)
                return connection
        raise (LimitMet if limit_met else ConnectionLost)("; ".join(failures))
