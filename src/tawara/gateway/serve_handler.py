"""Answers complete requests by method: reads, lists and deletes files, and describes the gateway itself."""

from __future__ import annotations

from typing import Final

from aiohttp import hdrs, web

import tawara
from tawara.gateway import responses
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.nginx_protocol import METHODS
from tawara.gateway.put_handlers import StreamedPutHandler
from tawara.gateway.requests import RESERVED, HttpRequest, MethodNotAllowed, RequestParser, conditions
from tawara.http1.reply import Reply
from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.model.access.grants import Right
from tawara.model.cluster import Domain
from tawara.model.errors import NoKey, NotFoundError, UsageError
from tawara.model.limits import LIST_KEYS
from tawara.model.node_errors import TooLarge
from tawara.store.service import FileStore
from tawara.wire.http import Target

_METHODS: Final = frozenset(METHODS.split(", "))


class ServeHandler:
    """Answers requests that are not one of nginx's steps of a PUT."""

    def __init__(
        self,
        metadata: Metadata,
        store: FileStore,
        parser: RequestParser,
        get: GetHandler,
        put: StreamedPutHandler,
        *,
        process: int = 0,
    ) -> None:
        """`process`: the number of this process, which its health names; 0: it is the only one."""
        self._process = process
        self._metadata, self._store, self._parser, self._get, self._put = metadata, store, parser, get, put

    async def handle(self, request: HttpRequest, *, by_nginx: bool) -> Reply | web.StreamResponse:
        """Answer one request; `by_nginx`: nginx is in front and can send the body of a GET."""
        target, method = self._parser.target(request), request.method
        if method not in _METHODS:
            raise MethodNotAllowed
        if method != "PUT" and request.body_exists:
            raise TooLarge("The body is too large, or has no place here")
        if method == "OPTIONS":
            return Reply(204, {hdrs.ALLOW: METHODS})
        if target.domain in ("", RESERVED):
            return await self._describe_gateway(target, method)
        if method == "PUT":
            return await self._put.handle(request)
        reads = method != "DELETE"
        await self._parser.authorise(request, target, Right.READ if reads else Right.WRITE)
        domain = await self._parser.domain(target)
        if not reads:
            if not target.key:
                raise NoKey("A file needs a key: /DOMAIN/KEY")
            await self._store.delete(domain, target.key, conditions(request))
            return Reply(204)
        if not target.key:
            return await self._list(domain, target)
        return await self._get.handle(request, domain, target.key, by_nginx=by_nginx)

    async def _describe_gateway(self, target: Target, method: str) -> Reply:
        """Answer a request for a resource outside of the domains: the name of the service, or its health."""
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed
        if not target.domain and not target.key:
            return responses.as_json({"name": "tawara", "version": tawara.__version__, "files": "/DOMAIN/KEY"})
        if target.domain == RESERVED and target.key == b"health":
            await self._metadata.read(files.find_fid, 0)
            return responses.as_json({"status": "ok"} | ({"process": self._process} if self._process else {}))
        raise NotFoundError

    async def _list(self, domain: Domain, target: Target) -> Reply:
        asked = target.parameters()
        text = asked.get("limit", b"")
        if text and not text.isdigit():
            raise UsageError("limit is a whole number")
        limit = min(max(int(text[:9] or LIST_KEYS), 1), LIST_KEYS)
        prefix = asked.get("prefix", b"")
        page = await self._store.list_files(domain, prefix, asked.get("after"), limit)
        return responses.listing(domain, prefix, limit, page)
