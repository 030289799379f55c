"""The Python client of a Tawara (or MogileFS) store: `Client`, and `AsyncClient` for asyncio.

Requests go to a tracker; file contents go directly to and from the storage nodes. Errors: `tawara.model.errors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tawara.client.asynchronous import AsyncClient
    from tawara.client.directories import DirectoryListing
    from tawara.client.random_access import RandomAccessReader
    from tawara.client.replies import ClassInfo, DeviceInfo, DomainInfo, FileInfo, Stored
    from tawara.client.synchronous import Client
    from tawara.client.trackers import OutcomeUnknown

__all__ = [
    "AsyncClient",
    "ClassInfo",
    "Client",
    "DeviceInfo",
    "DirectoryListing",
    "DomainInfo",
    "FileInfo",
    "OutcomeUnknown",
    "RandomAccessReader",
    "Stored",
]

_WHERE = {
    "AsyncClient": "asynchronous",
    "Client": "synchronous",
    "DirectoryListing": "directories",
    "OutcomeUnknown": "trackers",
    "RandomAccessReader": "random_access",
} | dict.fromkeys(("ClassInfo", "DeviceInfo", "DomainInfo", "FileInfo", "Stored"), "replies")


def __getattr__(name: str) -> Any:
    """Import a name on first use, so that importing one module of the package does not import the whole client."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
