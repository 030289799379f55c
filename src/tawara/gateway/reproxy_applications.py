"""Passes requests to applications that answer with X-Reproxy-URL, as behind Perlbal, and lets nginx send the file.

nginx cannot act on a field of that name. So the answers of such an application pass through this process; those without
the field, usually small pages, are sent on as they are. The URLs must be of the store's own devices: the file is looked
up by its fid, and sent from any of its replicas, as one that is named by X-Accel-Redirect (nginx_applications).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp import hdrs, web
from multidict import CIMultiDict
from yarl import URL

from tawara.gateway.nginx_applications import NAMED
from tawara.gateway.nginx_protocol import HeaderField
from tawara.gateway.reproxy_cache import RepeatedAnswer, ReproxyCache
from tawara.gateway.requests import HttpRequest
from tawara.http1.connections import abort
from tawara.http1.reply import Reply, text_reply
from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.applications import Application
from tawara.model.fid import parse_path
from tawara.model.limits import Limits
from tawara.wire import reproxy
from tawara.wire.http import path_of
from tawara.wire.signatures import unsigned_url

log = structlog.get_logger(__name__)

_ACCEL: Final = "X-Accel-Redirect"
_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_CHUNK: Final = 64 * 1024
_SECONDS: Final = 300.0
"""Seconds that an application may be silent."""


class ReproxyHandler:
    """Answers requests for applications. Create it on a running event loop, close it once."""

    def __init__(
        self, applications: Sequence[Application], metadata: Metadata, view: ClusterView, limits: Limits
    ) -> None:
        self._applications = {str(each.number): each for each in applications if each.reproxy}
        self._metadata, self._view, self._limits = metadata, view, limits
        self._cache = ReproxyCache(time.monotonic)
        self._sessions: dict[int, aiohttp.ClientSession] = {}

    async def close(self) -> None:
        """Close the connections to the applications."""
        for session in self._sessions.values():
            await session.close()

    async def handle(self, request: HttpRequest) -> Reply | web.StreamResponse:
        """Answer one request."""
        assert isinstance(request, web.BaseRequest)
        application = self._applications[request.headers.get(HeaderField.APPLICATION, "")]
        host, target = request.headers.get(hdrs.HOST, ""), request.raw_path
        reads = request.method in ("GET", "HEAD")
        if reads and (kept := self._cache.find(application.number, host, target)) is not None:
            return _named(kept.path, kept.fields)
        try:
            async with self._ask(application, request) as answer:
                urls = answer.headers.get(reproxy.URL)
                if urls is None:
                    return await self._pass_on(request, answer)
                path = await self._find(application, reproxy.parse_urls(urls), answer.headers)
                if path is None:
                    return text_reply(503, "The file cannot be read now; try again")
                fields = _own_fields(answer.headers)
                keep = reproxy.parse_cache_for(answer.headers.get(reproxy.CACHE_FOR))
                if keep is not None and reads and answer.status == 200:
                    repeated = [each for each in fields if each[0].lower() in keep.fields]
                    kept = RepeatedAnswer(path, repeated)
                    self._cache.keep(application.number, host, target, kept, keep.seconds)
                return _named(path, fields)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("application_failed", application=application.host or application.path, reason=str(error))
            return text_reply(503, "The application does not answer")

    def _ask(self, application: Application, request: web.BaseRequest) -> aiohttp.client._RequestContextManager:
        """Begin the request to the application, with the client's fields and body."""
        upstream = application.upstream
        session = self._sessions.get(application.number)
        if session is None:
            unix = upstream.startswith("unix:")
            connector = aiohttp.UnixConnector(upstream.removeprefix("unix:")) if unix else aiohttp.TCPConnector(limit=0)
            session = self._sessions[application.number] = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        authority = "application" if upstream.startswith("unix:") else upstream
        fields = CIMultiDict(
            (name, value)
            for name, value in request.headers.items()
            if name.lower() not in _HOP and not name.lower().startswith("x-tawara-")
        )
        fields["X-Proxy-Capabilities"] = "reproxy-file"
        return session.request(
            request.method,
            URL(f"http://{authority}{request.raw_path}", encoded=True),
            headers=fields,
            data=request.content if request.body_exists else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.node_connect, sock_read=_SECONDS),
        )

    async def _find(self, application: Application, urls: Sequence[str], fields: Mapping[str, str]) -> str | None:
        """Return the path of the file that one of the URLs names, None if none names one that may be sent."""
        size = reproxy.parse_size(fields.get(reproxy.EXPECTED_SIZE))
        for url in urls:
            fid = self._own_fid(url)
            stored = None if fid is None else await self._metadata.read(files.find_fid, fid)
            if stored is None or size not in (None, stored.length):
                continue
            domain = next((each for each in self._view.current.domains.values() if each.dmid == stored.dmid), None)
            if domain is not None and application.may_send(domain.name):
                return path_of(domain.name, stored.key)
        log.warning("reproxy_refused", application=application.host or application.path, urls=len(urls))
        return None

    def _own_fid(self, url: str) -> int | None:
        """Return the fid of a URL of one of the store's devices, None for any other URL."""
        plain, cluster = unsigned_url(url), self._view.current
        try:
            place = parse_path(urlsplit(plain).path)
        except ValueError:
            return None
        if place is None:
            return None
        own = (cluster.url(*place), cluster.url(*place, get=True), cluster.url(*place, alternative=True))
        return place[1] if plain in own else None

    async def _pass_on(self, request: web.BaseRequest, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Send the application's own answer. An error after the first byte closes the connection."""
        accel = answer.headers.get(_ACCEL, "")
        fields = CIMultiDict(_own_fields(answer.headers))
        if accel.startswith(NAMED):
            fields[_ACCEL] = accel
        if (length := answer.headers.get(hdrs.CONTENT_LENGTH)) is not None:
            fields[hdrs.CONTENT_LENGTH] = length
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=fields)
        try:
            async with asyncio.timeout(self._limits.stalled_body):
                await response.prepare(request)
            async for piece in answer.content.iter_chunked(_CHUNK):
                async with asyncio.timeout(self._limits.stalled_body):
                    await response.write(piece)
            async with asyncio.timeout(self._limits.stalled_body):
                await response.write_eof()
        except (TimeoutError, aiohttp.ClientError, OSError):
            raise abort(request) from None
        return response


def _own_fields(fields: CIMultiDict[str] | Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the application's fields without those for proxies, and without the length of its body."""
    return [
        (name, value)
        for name, value in fields.items()
        if (lower := name.lower()) not in _HOP
        and lower != "content-length"
        and not lower.startswith((reproxy.PREFIX, "x-accel-", "x-tawara-"))
    ]


def _named(path: str, fields: Sequence[tuple[str, str]]) -> web.StreamResponse:
    """Return the response by which nginx sends a file with `fields`, several of which may have one name."""
    headers = CIMultiDict([*fields, (_ACCEL, NAMED + path[1:])])
    response = web.Response(status=200, headers=headers)
    response.force_close()  # so that nginx's next request begins on the fast path again
    return response
