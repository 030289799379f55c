"""The parameters of nginx's configuration, and the names of the files that it refers to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.model.applications import Application
from tawara.model.cache_settings import CacheSettings

DEVICES: Final = "devices"
PID: Final = "nginx.pid"
ERRORS: Final = "error.log"
CHAIN: Final = "tls.crt"
KEY: Final = "tls.key"
SCRIPT: Final = "fields.js"


@dataclass(frozen=True, slots=True)
class NginxFeatures:
    """What an nginx can do beyond what every supported version can."""

    clears_fields: bool = False
    """Whether it can remove fields of a request (headers-more), and so its own evaluation of conditions."""
    http2: bool = False
    """Whether it speaks HTTP/2, by the directive `http2`."""
    scripts: bool = False
    """Whether it runs scripts (njs), which can set response fields of any name."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One server block: a protocol that the gateway speaks, with an address of its own."""

    listen: str
    """`ADDRESS:PORT`, `[ADDRESS]:PORT` or `unix:PATH` of the socket that nginx inherits."""
    protocol: ListenerProtocol = ListenerProtocol.HTTP
    """Value of HeaderField.LISTENER for the requests of this listener."""
    tls: bool = False
    """Whether it speaks TLS, with the pair in the files CHAIN and KEY."""


@dataclass(frozen=True, slots=True)
class NginxConfiguration:
    """The parameters of the configuration. Sizes are in bytes, times in seconds."""

    listeners: Sequence[Listener]
    as_root: bool
    """Whether the gateway runs as root; nginx workers then stay root, since the devices belong to that user."""
    workers: int
    connections: int
    header: int
    headers: int
    header_time: float
    stalled_body: float
    node_connect: float
    node_answer: float
    upload: int
    features: NginxFeatures = NginxFeatures()
    processes: int = 0
    """Gateway processes, each with a socket of its own; 0: one, which runs this nginx."""
    applications: Sequence[Application] = ()
    """Applications behind the listener of HTTP."""
    cache: CacheSettings | None = None
    """The cache of files of other machines."""
