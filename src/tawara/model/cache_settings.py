"""The parameters of the gateway's cache of files of other machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """nginx's cache. Sizes are bytes."""

    size: int
    """Most bytes on disk."""
    file: int
    """Largest file that is cached."""
    listen: str = ""
    """`ADDRESS:PORT` at which other gateways read this one's cache; empty: none does."""
    peers: Sequence[str] = ()
    """The addresses `listen` of all gateways, this one's included."""
    secret: str = field(default="", repr=False)
    """Shared by all gateways; a gateway without it gets nothing from the cache."""
    hot_rate: float = 100.0
    """Reads a second from which on a file is kept by every gateway."""
