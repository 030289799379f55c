"""Lists directories over the flat key space: a directory is a prefix of keys that ends with a slash."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from tawara.client.replies import key_bytes
from tawara.model.limits import KEY_BYTES, LIST_KEYS

_LAST: Final = "\uffff"
"""Follows nearly every character in byte order; keys below a directory that follow it are read one by one."""
_FEW: Final = 16
"""Keys requested where a directory may come next, all keys of which are then skipped."""


@dataclass(slots=True)
class DirectoryListing:
    """The direct members of a directory, in byte order."""

    files: list[str] = field(default_factory=list)
    """Keys of its files; the empty file that marks the directory itself (`PREFIX/`) is none of them."""
    directories: list[str] = field(default_factory=list)
    """Prefixes, with the trailing slash."""
    exists: bool = False
    """Whether any key begins with the prefix."""


class KeyLister(Protocol):
    """Lists keys; see AsyncClient."""

    def list_keys(
        self, domain: str, prefix: str | bytes = "", *, after: str | bytes = "", page: int = LIST_KEYS
    ) -> AsyncIterator[str]:
        """Yield the keys with `prefix` that follow `after`, in byte order; fetched `page` at a time."""
        ...


async def list_directory(client: KeyLister, domain: str, prefix: str) -> DirectoryListing:
    """List what is directly below `prefix`, which is empty or ends with a slash; other keys are skipped, not read."""
    found = DirectoryListing()
    after, page = "", _FEW
    while True:
        count = 0
        async for key in client.list_keys(domain, prefix, after=after, page=page):
            found.exists = True
            count += 1
            name, slash, _ = key[len(prefix) :].partition("/")
            if slash and _add_directory(found, prefix + name + slash):
                after, page = _past(found.directories[-1], key), _FEW
                break
            if name and not slash:
                found.files.append(key)
            if page == _FEW == count:
                after, page = key, LIST_KEYS
                break
        else:
            return found


def _add_directory(found: DirectoryListing, directory: str) -> bool:
    """Add a directory unless it was the last one added; return whether it was added."""
    if found.directories and found.directories[-1] == directory:
        return False
    found.directories.append(directory)
    return True


def _past(directory: str, key: str) -> str:
    """Return where to continue after a directory; after its first `key` if a longer one would be no valid key."""
    last = directory + _LAST
    return last if len(key_bytes(last)) <= KEY_BYTES else key
