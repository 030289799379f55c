"""Parses and authorises requests of WebDAV: the resource, the account, and the conditions of its lock tokens."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from aiohttp import hdrs, web

from tawara.gateway.authenticator import Authenticator
from tawara.gateway.nginx_protocol import GatewayStep
from tawara.gateway.requests import HttpRequest, RequestParser
from tawara.metadata.view import ClusterView
from tawara.model.access.grants import Right
from tawara.model.cluster import Domain
from tawara.model.errors import InvalidKey, UnregDomain
from tawara.model.node_errors import Stalled, TooLarge
from tawara.store.collections import Collections, check_path
from tawara.store.writer import WriteRequest
from tawara.wire.dav import documents
from tawara.wire.dav.if_header import IfList, parse_if, submitted_tokens
from tawara.wire.http import Target, path_of

NO_LISTS: Final[tuple[IfList, ...]] = ()


class DavPutParser(RequestParser):
    """Parses the steps of a PUT; the key is the one that is stored, see Collections.stored_path.

    DavRequestParser has authorised the request for it.
    """

    def __init__(
        self, collections: Collections, view: ClusterView, authenticator: Authenticator, *, upload: int
    ) -> None:
        super().__init__(view, authenticator, upload=upload)
        self._collections = collections

    async def put(self, request: HttpRequest) -> WriteRequest:
        """See RequestParser."""
        wanted = await super().put(request)
        path = wanted.key.removesuffix(b"/")  # as in DavRequestParser.name
        return replace(wanted, key=await self._collections.stored_path(wanted.domain, path))


@dataclass(frozen=True, slots=True)
class DavResourceName:
    """A resource of a domain, whether it exists or not; `domain` None is the root, which has the domains as members."""

    domain: Domain | None
    path: bytes
    """The key without a trailing slash; empty for the domain itself."""

    def href(self, path: bytes | None = None, *, collection: bool) -> str:
        """Return the percent-encoded path of the resource or, with `path`, of another one of its domain."""
        if self.domain is None:
            return "/"
        shown = self.path if path is None else path
        return path_of(self.domain.name, shown + b"/" if collection and shown else shown)


@dataclass(frozen=True, slots=True)
class DavRequest:
    """An authorised request."""

    http: HttpRequest
    name: DavResourceName
    account: str
    lists: tuple[IfList, ...]
    """The lists of the `If` field."""
    step: GatewayStep
    """What is to be done for it now."""

    @property
    def tokens(self) -> frozenset[str]:
        """The lock tokens that the request submits."""
        return submitted_tokens(self.lists)

    def field(self, name: str) -> str | None:
        """Return the value of a header field; the first one, if there are several."""
        return self.http.headers.get(name)


class DavRequestParser:
    """Turns requests into values."""

    def __init__(
        self,
        parser: RequestParser,
        authenticator: Authenticator,
        view: ClusterView,
        collections: Collections,
        *,
        body_time: float,
    ) -> None:
        """`body_time`: most seconds for the body of a request other than PUT."""
        self._parser, self._authenticator, self._view, self._body_time = parser, authenticator, view, body_time
        self._collections = collections

    async def parse(self, request: HttpRequest, right: Right, step: GatewayStep) -> DavRequest:
        """Return the request if it has `right` to its resource; the root needs valid credentials alone.

        Raises UsageError, InvalidKey, ProtectedResource, UnregDomain, DeniedError, Forbidden, SecretUnreadable, Db.
        """
        target = self._parser.target(request)
        account = await self._account(request, target, right)
        await self._view.refresh_for_name(target.domain)
        field = request.headers.getall("If", [])
        lists = parse_if(" ".join(field)) if field else NO_LISTS
        return DavRequest(request, await self._stored_name(request, target, right), account, lists, step)

    async def destination(self, request: DavRequest, target: Target, right: Right) -> DavResourceName:
        """Return the resource of a Destination field, authorised. Raises as `parse`."""
        await self._account(request.http, target, right)
        await self._view.refresh_for_name(target.domain)
        return await self._stored_name(request.http, target, right)

    async def _stored_name(self, request: HttpRequest, target: Target, right: Right) -> DavResourceName:
        """Return the resource of a target under the names that are stored, to which the request must have the right."""
        name = self.name(target)
        if name.domain is None:
            return name
        path = await self._collections.stored_path(name.domain, name.path)
        if path == name.path:
            return name
        fields = list(request.headers.getall(hdrs.AUTHORIZATION, ()))
        await self._authenticator.authorise(fields, target.domain, path, right)
        return DavResourceName(name.domain, path)

    def name(self, target: Target) -> DavResourceName:
        """Return the resource of a target. Raises InvalidKey, ProtectedResource, UnregDomain."""
        if not target.domain:
            if target.key:
                raise UnregDomain("Not found")
            return DavResourceName(None, b"")
        domain = self._view.current.domains.get(target.domain)
        if domain is None:
            raise UnregDomain("Not found")
        path = target.key.removesuffix(b"/")
        check_path(path)
        try:
            path.decode()
        except UnicodeDecodeError:
            raise InvalidKey("A key is UTF-8") from None
        return DavResourceName(domain, path)

    async def domains(self, request: DavRequest) -> list[Domain]:
        """Return the domains of which the request may list something, by name."""
        fields = list(request.http.headers.getall(hdrs.AUTHORIZATION, ()))
        visible = await self._authenticator.visible_domains(fields, list(self._view.current.domains))
        return [self._view.current.domains[name] for name in sorted(visible)]

    async def _account(self, request: HttpRequest, target: Target, right: Right) -> str:
        fields = list(request.headers.getall(hdrs.AUTHORIZATION, ()))
        if not target.domain:
            return await self._authenticator.authenticate(fields)
        return await self._authenticator.authorise(fields, target.domain, target.key, right)

    async def body(self, request: DavRequest) -> bytes:
        """Receive the body, an XML document. Raises TooLarge, Stalled."""
        received = bytearray()
        if not isinstance(request.http, web.BaseRequest):
            return request.http.body
        try:
            async with asyncio.timeout(self._body_time):
                while piece := await request.http.content.readany():
                    received += piece
                    if len(received) > documents.LONGEST:
                        raise TooLarge
        except TimeoutError:
            raise Stalled from None
        return bytes(received)
