"""Answers WebDAV's methods (RFC 4918, section 9) over collections, locks and properties."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, TypeAlias

from aiohttp import hdrs, web

from tawara.gateway.dav import properties
from tawara.gateway.dav.locks import DavLocks
from tawara.gateway.dav.properties import ShownResource
from tawara.gateway.dav.requests import DavRequest, DavRequestParser, DavResourceName
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.requests import HttpRequest, MethodNotAllowed
from tawara.http1.connections import SERVER
from tawara.http1.reply import Reply, text_reply
from tawara.metadata import dav_properties
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.access.grants import Right
from tawara.model.cluster import Domain
from tawara.model.dav_locks import DavLock, is_below, parent
from tawara.model.errors import (
    InfiniteDepth,
    NoParentCollection,
    NotFoundError,
    PreconditionFailed,
    ProtectedResource,
)
from tawara.model.node_errors import MalformedRequest
from tawara.store.collections import Collections, Resource
from tawara.store.writer import FileWriter, WriteRequest
from tawara.wire.dav import documents, fields, multistatus
from tawara.wire.dav.documents import PropertyName, Propfind
from tawara.wire.dav.fields import CollectionDepth
from tawara.wire.dav.multistatus import PropertyStatus, element
from tawara.wire.http import Conditions

METHODS: Final = "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, PROPPATCH, MKCOL, COPY, MOVE, LOCK, UNLOCK"
XML_TYPE: Final = "application/xml; charset=utf-8"
_ABOUT: Final = {"DAV": "1, 2", "MS-Author-Via": "DAV", hdrs.ALLOW: METHODS}
"""Fields of the reply to OPTIONS; without the second, Windows does not take the server for WebDAV."""

_STEPS_OF_PUT: Final = (GatewayStep.ADMIT, GatewayStep.STORE, GatewayStep.SMALL_PUT, GatewayStep.UNRECEIVED)

DavAnswer: TypeAlias = Reply | web.StreamResponse


class UnsupportedBody(MalformedRequest):
    """MKCOL has a body, for which no meaning is defined."""

    code = "unsupported_body"
    message = "MKCOL takes no body"
    hint = None
    http = 415


class DavMethods:
    """One coroutine for each method."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        parser: DavRequestParser,
        collections: Collections,
        locks: DavLocks,
        get: GetHandler,
        puts: Mapping[GatewayStep, Callable[[Any], Coroutine[Any, Any, Reply]]],
        writer: FileWriter,
        *,
        behind_nginx: bool,
    ) -> None:
        """`puts`: the handlers of PUT by step."""
        self._metadata, self._view, self._parser = metadata, view, parser
        self._collections, self._locks = collections, locks
        self._get, self._puts, self._writer, self._behind_nginx = get, puts, writer, behind_nginx
        self._methods: dict[str, tuple[Right, Callable[[DavRequest], Awaitable[DavAnswer]]]] = {
            "GET": (Right.READ, self._read),
            "HEAD": (Right.READ, self._read),
            "PUT": (Right.WRITE, self._store),
            "DELETE": (Right.WRITE, self._delete),
            "PROPFIND": (Right.LIST, self._propfind),
            "PROPPATCH": (Right.WRITE, self._proppatch),
            "MKCOL": (Right.WRITE, self._make_collection),
            "COPY": (Right.READ, self._copy),
            "MOVE": (Right.WRITE, self._move),
            "LOCK": (Right.WRITE, self._lock),
            "UNLOCK": (Right.WRITE, self._unlock),
        }

    async def handle(self, request: HttpRequest, *, step: GatewayStep = GatewayStep.DECIDE) -> DavAnswer:
        """Answer one request, or the part of it that nginx asks for."""
        name = "PUT" if step in _STEPS_OF_PUT else request.method
        if name == "OPTIONS":  # without credentials, too: clients ask before they have any
            return Reply(200, dict(_ABOUT))
        if name not in self._methods:
            raise MethodNotAllowed
        right, method = self._methods[name]
        return await method(await self._parser.parse(request, right, step))

    # --- files --------------------------------------------------------------------------------------------------------

    async def _read(self, request: DavRequest) -> DavAnswer:
        found = await self._existing(request.name)
        if found.file is None:
            return text_reply(200, "A collection; its members are listed by WebDAV")
        domain = _domain(request.name)
        by_nginx = self._behind_nginx and request.step is not GatewayStep.STREAM
        return await self._get.handle(request.http, domain, request.name.path, by_nginx=by_nginx)

    async def _store(self, request: DavRequest) -> DavAnswer:
        name, domain = request.name, _domain(request.name)
        found = await self._collections.find(domain, name.path)
        if found is not None and found.is_collection:
            raise MethodNotAllowed("A collection has no body")
        await self._check_parent(name)
        await self._locks.check_lists(request)
        await self._locks.check(request, name, membership=found is None)
        return await self._puts[request.step](request.http)

    async def _delete(self, request: DavRequest) -> DavAnswer:
        name, domain = request.name, _domain(request.name)
        found = await self._existing(name)
        if not name.path:
            raise ProtectedResource("Domains are removed by `tawara domain remove`")
        await self._locks.check_lists(request)
        await self._locks.check(request, name, membership=True, tree=found.is_collection)
        await self._collections.delete(domain, found)
        return Reply(204, {})

    # --- collections --------------------------------------------------------------------------------------------------

    async def _make_collection(self, request: DavRequest) -> DavAnswer:
        name, domain = request.name, request.name.domain
        if request.http.body_exists:
            raise UnsupportedBody
        if domain is None or await self._collections.find(domain, name.path) is not None:
            raise MethodNotAllowed("It exists already")
        await self._check_parent(name)
        await self._locks.check_lists(request)
        await self._locks.check(request, name, membership=True)
        await self._collections.create(domain, name.path)
        return Reply(201, {})

    async def _copy(self, request: DavRequest) -> DavAnswer:
        source, target, replaced = await self._prepare_transfer(request)
        depth = fields.parse_depth(request.field("Depth"))
        if depth is CollectionDepth.ONE:
            raise MalformedRequest("Depth of a COPY must be 0 or infinity")
        await self._collections.copy(
            _domain(request.name), source, _domain(target), target.path, members=depth is CollectionDepth.INFINITY
        )
        return Reply(204 if replaced else 201, {})

    async def _move(self, request: DavRequest) -> DavAnswer:
        name = request.name
        await self._locks.check(request, name, membership=True, tree=True)
        source, target, replaced = await self._prepare_transfer(request)
        domain, to_domain = _domain(name), _domain(target)
        if domain == to_domain:
            await self._collections.move(domain, source, target.path)
        else:
            await self._collections.copy(domain, source, to_domain, target.path, members=True)
            await self._collections.delete(domain, source)
        return Reply(204 if replaced else 201, {})

    async def _prepare_transfer(self, request: DavRequest) -> tuple[Resource, DavResourceName, bool]:
        """Return source and target of a COPY or MOVE, and whether the target existed; it does not any more."""
        name = request.name
        overwrite = fields.parse_overwrite(request.field("Overwrite"))
        destination = fields.parse_destination(request.field("Destination"))
        target = await self._parser.destination(request, destination, Right.WRITE)
        source, domain = await self._existing(name), _domain(target)
        inside = domain == name.domain and (target.path == name.path or is_below(target.path, name.path))
        above = domain == name.domain and is_below(name.path, target.path)
        if not target.path or not name.path or inside or above:
            raise ProtectedResource("Source and destination contain each other")
        await self._locks.check_lists(request)
        await self._check_parent(target)
        existing = await self._collections.find(domain, target.path)
        await self._locks.check(request, target, membership=existing is None, tree=True)
        if existing is not None:
            if not overwrite:
                raise PreconditionFailed
            await self._collections.delete(domain, existing)
        return source, target, existing is not None

    async def _check_parent(self, name: DavResourceName) -> None:
        """Raise NoParentCollection unless the collection of a resource exists."""
        found = await self._collections.find(_domain(name), parent(name.path))
        if found is None or not found.is_collection:
            raise NoParentCollection

    async def _existing(self, name: DavResourceName) -> Resource:
        """Return the resource. Raises NotFoundError."""
        found = Resource(b"", None) if name.domain is None else await self._collections.find(name.domain, name.path)
        if found is None:
            raise NotFoundError("Not found")
        return found

    # --- properties ---------------------------------------------------------------------------------------------------

    async def _propfind(self, request: DavRequest) -> DavAnswer:
        depth = fields.parse_depth(request.field("Depth"))
        asked = documents.parse_propfind(await self._parser.body(request))
        found = await self._existing(request.name)
        if depth is CollectionDepth.INFINITY and found.is_collection:
            raise InfiniteDepth
        if depth is CollectionDepth.ZERO or not found.is_collection:
            shown = await self._show(request.name, [(found.path, found.file)], asked)
            body = b"".join([multistatus.OPENING, *(properties.response(each, asked) for each in shown)])
            return Reply(207, {hdrs.CONTENT_TYPE: XML_TYPE}, body + multistatus.CLOSING)
        return await self._list(request, asked)

    async def _list(self, request: DavRequest, asked: Propfind) -> web.StreamResponse:
        """Send a collection and its members while they are read."""
        assert isinstance(request.http, web.BaseRequest), "plain requests are no PROPFIND"
        answer = web.StreamResponse(status=207, headers={hdrs.CONTENT_TYPE: XML_TYPE, hdrs.SERVER: SERVER})
        await answer.prepare(request.http)
        await answer.write(multistatus.OPENING)
        async with aclosing(self._pages(request, asked)) as pages:
            async for page in pages:
                await answer.write(b"".join(properties.response(each, asked) for each in page))
        await answer.write(multistatus.CLOSING)
        await answer.write_eof()
        return answer

    async def _pages(self, request: DavRequest, asked: Propfind) -> AsyncGenerator[list[ShownResource], None]:
        name = request.name
        yield await self._show(name, [(name.path, None)], asked)
        if name.domain is None:
            for domain in await self._parser.domains(request):
                yield await self._show(DavResourceName(domain, b""), [(b"", None)], asked)
            return
        async for page in self._collections.members(name.domain, name.path):
            yield await self._show(name, [(each.path, each.file) for each in page], asked)

    async def _show(
        self, name: DavResourceName, found: list[tuple[bytes, properties.AnyFile]], asked: Propfind
    ) -> list[ShownResource]:
        """Return what is to be shown of some resources: `name` itself, or its members."""
        paths = [path for path, _ in found]
        dead: dict[bytes, dict[PropertyName, str]] = {}
        locks: list[DavLock] = []
        if name.domain is not None and paths:
            dead = await self._metadata.read(dav_properties.read, name.domain.dmid, paths)
            locks = await self._locks.on(name, tree=paths != [name.path])
        free, used = self._quota(name.domain) if properties.QUOTA.intersection(asked.names) else (None, None)
        shown = []
        for path, file in found:
            on_it = await self._locks.shown(DavResourceName(name.domain, path), locks) if locks else []
            shown.append(
                ShownResource(
                    href=name.href(path, collection=file is None),
                    path=path or (name.domain.name.encode() if name.domain else b""),
                    file=file,
                    dead=dead.get(path, {}),
                    locks=multistatus.lock_discovery(on_it),
                    free=free,
                    used=used,
                )
            )
        return shown

    def _quota(self, domain: Domain | None) -> tuple[int | None, int | None]:
        """Return the bytes that can still be stored in a domain, and those that devices hold, divided by the copies."""
        cluster = self._view.current
        default = None if domain is None else domain.class_named("")
        copies = 1 if default is None else max(1, default.mindevcount)
        devices = [each for each in cluster.devices.values() if cluster.is_writeable(each.devid)]
        free = sum(max(0, (each.mb_total or 0) - (each.mb_used or 0)) for each in devices)
        used = sum(each.mb_used or 0 for each in devices)
        return free * 1024 * 1024 // copies, used * 1024 * 1024 // copies

    async def _proppatch(self, request: DavRequest) -> DavAnswer:
        changes = documents.parse_proppatch(await self._parser.body(request))
        name, domain = request.name, _domain(request.name)
        found = await self._existing(name)
        await self._locks.check_lists(request)
        await self._locks.check(request, name)
        protected = [each.name for each in changes if each.name in properties.PROTECTED]
        others = [each.name for each in changes if each.name not in properties.PROTECTED]
        status = 424 if protected else 200
        if not protected:
            await self._metadata.write(dav_properties.change, domain.dmid, name.path, changes)
        statuses = [
            PropertyStatus(403, [element(each) for each in protected]),
            PropertyStatus(status, [element(each) for each in dict.fromkeys(others)]),
        ]
        body = multistatus.response(name.href(collection=found.is_collection), statuses)
        return Reply(207, {hdrs.CONTENT_TYPE: XML_TYPE}, multistatus.OPENING + body + multistatus.CLOSING)

    # --- locks --------------------------------------------------------------------------------------------------------

    async def _lock(self, request: DavRequest) -> DavAnswer:
        wanted = documents.parse_lock(await self._parser.body(request))
        seconds = fields.parse_timeout(request.field("Timeout"))
        name, domain = request.name, _domain(request.name)
        if wanted is None:
            await self._locks.refresh(request, domain, seconds=seconds)
            return await self._lock_reply(name, Reply(200, {}))
        depth = fields.parse_depth(request.field("Depth"))
        if depth is CollectionDepth.ONE:
            raise MalformedRequest("Depth of a LOCK must be 0 or infinity")
        found = await self._collections.find(domain, name.path)
        if found is None:
            await self._check_parent(name)
        await self._locks.check_lists(request)
        if found is None:
            await self._locks.check(request, name, membership=True)
        deep = depth is CollectionDepth.INFINITY and (found is None or found.is_collection)
        lock = await self._locks.create(request, domain, wanted, deep=deep and found is not None, seconds=seconds)
        if found is None:
            await self._store_empty(domain, name.path)
        reply = Reply(201 if found is None else 200, {"Lock-Token": f"<{lock.token}>"})
        return await self._lock_reply(name, reply, only=lock.token)

    async def _lock_reply(self, name: DavResourceName, reply: Reply, *, only: str | None = None) -> Reply:
        locks = [each for each in await self._locks.on(name) if only is None or each.token == only]
        body = multistatus.lock_response(await self._locks.shown(name, locks))
        return Reply(reply.status, {**reply.fields, hdrs.CONTENT_TYPE: XML_TYPE}, body)

    async def _store_empty(self, domain: Domain, path: bytes) -> None:
        """Store the empty file that a lock of a new resource creates (RFC 4918, section 7.3)."""
        storage_class = domain.class_named("")
        assert storage_class is not None, "each domain has a default class"
        with suppress(PreconditionFailed):
            request = WriteRequest(domain, path, storage_class, None, None, Conditions(if_none_match="*"))
            await self._writer.store_small(request, b"")

    async def _unlock(self, request: DavRequest) -> DavAnswer:
        token = fields.parse_lock_token(request.field("Lock-Token"))
        await self._locks.remove(request, _domain(request.name), token)
        return Reply(204, {})


def _domain(name: DavResourceName) -> Domain:
    """Return the domain of a resource. Raises ProtectedResource for the root."""
    if name.domain is None:
        raise ProtectedResource("The root has only domains as members")
    return name.domain
