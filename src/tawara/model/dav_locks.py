"""Decides about WebDAV's write locks: which locks conflict, and which hinder a request (RFC 4918, sections 6 and 7).

A path is a key without a trailing slash; the root of a domain is the empty path.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DavLock:
    """A write lock on a resource or, if `deep`, on it and all that is below."""

    token: str
    path: bytes
    deep: bool
    exclusive: bool
    account: str
    """The account that created it; only requests of this account can submit its token (RFC 4918, section 6.4)."""
    expires_at: int
    """Unix seconds."""
    owner: str = ""
    """The client's `owner` element as XML."""

    def covers(self, path: bytes) -> bool:
        """Whether the resource is locked by this lock."""
        return path == self.path or (self.deep and is_below(path, self.path))


def is_below(path: bytes, collection: bytes) -> bool:
    """Whether `path` is a member of the collection, at any depth."""
    return path != collection and (not collection or path.startswith(collection + b"/"))


def parent(path: bytes) -> bytes:
    """Return the path of the collection that has this member; that of the root is the root."""
    return path.rpartition(b"/")[0]


def ancestors(path: bytes) -> tuple[bytes, ...]:
    """Return the collections above a path, the nearest first."""
    found = []
    while path:
        path = parent(path)
        found.append(path)
    return tuple(found)


def valid(locks: Iterable[DavLock], now: int) -> tuple[DavLock, ...]:
    """Return the locks that have not expired."""
    return tuple(each for each in locks if each.expires_at > now)


def conflicting(locks: Iterable[DavLock], path: bytes, *, deep: bool, exclusive: bool) -> tuple[DavLock, ...]:
    """Return the locks that prevent a new lock: those that share a resource with it, unless both are shared."""
    return tuple(
        each
        for each in locks
        if (each.covers(path) or (deep and is_below(each.path, path))) and (exclusive or each.exclusive)
    )


def hindering(
    locks: Iterable[DavLock],
    path: bytes,
    tokens: frozenset[str],
    account: str,
    *,
    membership: bool = False,
    tree: bool = False,
) -> tuple[DavLock, ...]:
    """Return the locks that hinder a write of `path`, since the request submits no token for them.

    `membership`: the resource is created or removed, which changes its collection, too. `tree`: everything below it is
    removed. Of several shared locks on one resource, one token is sufficient (RFC 4918, section 7.6).
    """
    known = list(locks)
    written = [path, *([parent(path)] if membership and path else [])]
    if tree:
        written += sorted({each.path for each in known if is_below(each.path, path)})
    found: dict[str, DavLock] = {}
    for resource in written:
        on_it = [each for each in known if each.covers(resource)]
        if not any(each.token in tokens and each.account == account for each in on_it):
            found.update((each.token, each) for each in on_it)
    return tuple(found.values())
