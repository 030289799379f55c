"""Locks of WebDAV: checks requests against them, grants, refreshes and removes them (RFC 4918, sections 6, 7, 9.10)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

from tawara.gateway.dav.requests import DavRequest, DavResourceName
from tawara.metadata import dav_locks as rows
from tawara.metadata.contract import Metadata
from tawara.model.cluster import Domain
from tawara.model.dav_locks import DavLock, hindering
from tawara.model.errors import LockNotThere, LockTokenMissing, NotFoundError, PreconditionFailed, UsageError
from tawara.store.collections import Collections
from tawara.wire.dav.documents import LockRequest
from tawara.wire.dav.if_header import ResourceState, holds
from tawara.wire.dav.multistatus import ActiveLock
from tawara.wire.http import entity_tag, parse_target

LONGEST_OWNER: Final = 4096
"""Most characters of the `owner` element."""


class DavLocks:
    """The locks of all domains."""

    def __init__(self, metadata: Metadata, collections: Collections) -> None:
        self._metadata, self._collections = metadata, collections

    async def on(self, name: DavResourceName, *, tree: bool = False) -> list[DavLock]:
        """Return the locks on a resource, above it and, with `tree`, below it."""
        if name.domain is None:
            return []
        now = await self._metadata.clock.seconds()
        return await self._metadata.read(rows.near, name.domain.dmid, name.path, tree=tree, now=now)

    async def check(
        self, request: DavRequest, name: DavResourceName, *, membership: bool = False, tree: bool = False
    ) -> None:
        """Raise LockTokenMissing if a lock hinders the request from writing a resource; see model.dav_locks."""
        locks = await self.on(name, tree=tree)
        found = hindering(locks, name.path, request.tokens, request.account, membership=membership, tree=tree)
        if found:
            raise LockTokenMissing(paths=[each.path for each in found])

    async def check_lists(self, request: DavRequest) -> None:
        """Raise PreconditionFailed unless a list of the request's `If` field holds."""
        if not request.lists:
            return
        states: dict[str | None, ResourceState] = {}
        for resource in {each.resource for each in request.lists}:
            states[resource] = await self._state(request, resource)
        if not holds(request.lists, lambda resource: states[resource]):
            raise PreconditionFailed

    async def _state(self, request: DavRequest, resource: str | None) -> ResourceState:
        name = request.name
        if resource is not None:
            try:
                target = parse_target(resource)
            except UsageError:
                return ResourceState()
            if name.domain is None or target.domain != name.domain.name:
                return ResourceState()
            path = await self._collections.stored_path(name.domain, target.key.removesuffix(b"/"))
            name = DavResourceName(name.domain, path)
        if name.domain is None:
            return ResourceState()
        found = await self._collections.find(name.domain, name.path)
        etag = entity_tag(found.file.fid, found.file.length) if found is not None and found.file is not None else None
        covering = (each for each in await self.on(name) if each.covers(name.path))
        return ResourceState(etag, frozenset(each.token for each in covering))

    async def create(
        self, request: DavRequest, domain: Domain, wanted: LockRequest, *, deep: bool, seconds: int
    ) -> DavLock:
        """Lock the resource of a request. Raises Locked, UsageError if the owner is too long."""
        if len(wanted.owner) > LONGEST_OWNER:
            raise UsageError(f"The owner of a lock has at most {LONGEST_OWNER} characters")
        now = await self._metadata.clock.seconds()
        lock = DavLock(
            token=f"urn:uuid:{uuid.uuid4()}",
            path=request.name.path,
            deep=deep,
            exclusive=wanted.exclusive,
            account=request.account,
            expires_at=now + seconds,
            owner=wanted.owner,
        )
        await self._metadata.write(rows.add, domain.dmid, lock, now=now)
        return lock

    async def refresh(self, request: DavRequest, domain: Domain, *, seconds: int) -> DavLock:
        """Extend the lock whose token the request submits. Raises PreconditionFailed if there is none."""
        for lock in await self.on(request.name):
            if lock.token in request.tokens and lock.account == request.account and lock.covers(request.name.path):
                expires_at = await self._metadata.clock.seconds() + seconds
                await self._metadata.write(rows.refresh, domain.dmid, lock.token, expires_at=expires_at)
                return lock
        raise PreconditionFailed

    async def remove(self, request: DavRequest, domain: Domain, token: str) -> None:
        """Remove a lock on the resource of a request. Raises LockNotThere, NotFoundError."""
        for lock in await self.on(request.name):
            if lock.token == token and lock.covers(request.name.path):
                if lock.account != request.account:
                    raise LockTokenMissing(paths=[lock.path])
                await self._metadata.write(rows.remove, domain.dmid, token)
                return
        if await self._collections.find(domain, request.name.path) is None:
            raise NotFoundError("Not found")
        raise LockNotThere

    async def shown(self, name: DavResourceName, locks: Iterable[DavLock]) -> list[ActiveLock]:
        """Return the locks that cover a resource, as they are shown to clients."""
        now = await self._metadata.clock.seconds()
        return [
            ActiveLock(
                token=each.token,
                exclusive=each.exclusive,
                deep=each.deep,
                root=name.href(each.path, collection=False),
                seconds=max(0, each.expires_at - now),
                owner=each.owner,
            )
            for each in locks
            if each.covers(name.path)
        ]
