"""Applications behind the gateway's nginx: where each is reached, and which files it may send."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from tawara.model import addresses

ANY: Final = "*"
"""In the list of domains: all of them."""
_UNIX: Final = "unix:"
_HTTP: Final = "http://"
_SOCKET: Final = re.compile(r"/[\w./@+-]{1,100}", re.ASCII)
_PATH: Final = re.compile(r"/(?:[\w.~@+-]+/)*", re.ASCII)
_RESERVED_PATHS: Final = ("/.tawara/", "/_tawara/")
_FIRST_NUMBER: Final = 1


@dataclass(frozen=True, slots=True)
class Application:
    """One application."""

    number: int
    """Names the application between nginx and the gateway."""
    upstream: str
    """`HOST:PORT` or `unix:PATH`, as nginx writes it."""
    domains: frozenset[str]
    """The domains whose files it may send; ANY: all."""
    host: str = ""
    """Name by which clients reach it, for all paths; empty: it has a path."""
    path: str = ""
    """Prefix of the paths by which clients reach it at the gateway's own address, with a slash at both ends."""
    reproxy: bool = False
    """Whether it answers with X-Reproxy-URL, so that its answers pass through the gateway's process."""

    def may_send(self, domain: str) -> bool:
        """Whether the application may send files of `domain`."""
        return domain in self.domains or ANY in self.domains


def parse_application(
    number: int, at: str, upstream: str, domains: Collection[str], *, reproxy: bool = False
) -> Application:
    """Return an application that clients reach `at` a host name or a path. Raises ValueError: what to write."""
    if not domains or not all(domains):
        raise ValueError('domains must list the domains whose files it may send, or ["*"] for all')
    path = host = ""
    if at.startswith("/"):
        path = at if at.endswith("/") else at + "/"
        if not _PATH.fullmatch(path) or "/./" in path or "/../" in path:
            raise ValueError("a path has only letters, digits and . _ ~ @ + - between its slashes")
        if path == "/" or path.startswith(_RESERVED_PATHS):
            raise ValueError(f"the path {path} belongs to the gateway; use another path or a host name")
    else:
        host = addresses.reachable(at.lower()) if at else ""
        if not host:
            raise ValueError("name an application by its host name, or by a path such as /photos/")
    return Application(number, parse_upstream(upstream), frozenset(domains), host, path, reproxy)


def parse_upstream(text: str) -> str:
    """Return the address of an application as nginx writes it. Raises ValueError, which says what to write."""
    text = text.removeprefix(_HTTP).removesuffix("/")
    if text.startswith(_UNIX):
        if not _SOCKET.fullmatch(text.removeprefix(_UNIX)):
            raise ValueError("write a Unix socket as unix:/ABSOLUTE/PATH")
        return text
    host, port = addresses.listening(text)
    if port == 0:
        raise ValueError("the port is missing")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def number_applications(
    wanted: Sequence[tuple[str, str, Collection[str], bool]],
) -> list[Application]:
    """Return the applications of (at, upstream, domains, reproxy). Raises ValueError, which names the application."""
    found: dict[str, Application] = {}
    for number, (at, upstream, domains, reproxy) in enumerate(wanted, start=_FIRST_NUMBER):
        try:
            one = parse_application(number, at, upstream, domains, reproxy=reproxy)
        except ValueError as error:
            raise ValueError(f"{at!r}: {error}") from None
        if (one.host or one.path) in found:
            raise ValueError(f"{at!r}: another application has the same host name or path")
        found[one.host or one.path] = one
    return list(found.values())
