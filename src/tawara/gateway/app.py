"""The HTTP door of the gateway: parse, authorise, decide, act. RFC 9110.

One handler serves both data paths. Behind nginx it answers GET by saying where the bytes are and gets the body of a PUT
as a file; without nginx the bytes pass through (`streaming`). From outside there is no difference.
"""

from __future__ import annotations

import asyncio
import hmac
import random
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.web_protocol import RequestPayloadError

import tawara
from tawara.gateway import reading
from tawara.gateway.acceleration import ReplicaLocation, redirect
from tawara.gateway.nginx import NginxFront
from tawara.gateway.nginx_configuration import METHODS, GatewayStep, HeaderField
from tawara.gateway.replica_locator import ReplicaLocator
from tawara.gateway.spool import SpoolFull
from tawara.gateway.streaming import read_somewhere
from tawara.gateway.writing import FileWriter, PutRequest, PutResult
from tawara.http1.connections import (
    SERVER,
    BoundedConnection,
    HttpServer,
    abort,
    body_length,
    plain,
    send_continue,
    send_response,
)
from tawara.http1.reply import NOT_WHOLE, content_md5, whole_length
from tawara.listening import OnClosed
from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import Domain
from tawara.model.errors import (
    DeniedError,
    InvalidKey,
    NoKey,
    NoSource,
    NotFoundError,
    TawaraError,
    UnknownKey,
    UnregClass,
    UnregDomain,
    UsageError,
)
from tawara.model.files import StoredFile
from tawara.model.limits import LIST_KEYS, Limits
from tawara.model.node_errors import MalformedRequest, Stalled, TooLarge
from tawara.nodes.client import NodeClient
from tawara.wire import ranges
from tawara.wire.http import Conditions, Target, http_date, parse_target, path_of

log = structlog.get_logger(__name__)

_RESERVED: Final = ".tawara"
"""No domain of this name is served: it is the gateway's own."""
_PATIENT: Final = 3600.0
"""Seconds that a connection of our own nginx may idle; nginx closes it earlier, so that no request meets a close."""
_JSON: Final = "application/json"
_LOOK_UPS: Final = 20
"""How often a key is looked up for one GET while it is overwritten again and again."""


class MethodNotAllowed(UsageError):
    """This method is not served here"""

    http = 405


class VersionNotSupported(UsageError):
    """This version of HTTP is not spoken here"""

    http = 505


class UnsupportedCoding(UsageError):
    """Content-Encoding is not kept; send the file as it is"""

    http = 415


class GatewayHttpServer:
    """Answers HTTP requests for files by domain and key."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        writer: FileWriter,
        places: ReplicaLocator,
        *,
        secret: str,
        public_reads: bool,
        reproxy: bool,
        nginx: NginxFront | None,
        limits: Limits,
        rng: random.Random,
    ) -> None:
        """With `nginx` every connection comes from it. Needs a running event loop."""
        self._metadata, self._view, self._nodes, self._writer, self._places = metadata, view, nodes, writer, places
        self._secret = secret.encode()
        self._public_reads, self._reproxy, self._nginx = public_reads, reproxy, nginx
        self._limits, self._rng = limits, rng
        self._server = HttpServer(self._answer, limits, idle=limits.header_time if nginx is None else _PATIENT)

    def connection(self, on_closed: OnClosed) -> BoundedConnection:
        """A protocol for one new connection, which calls `leave` when the connection is over."""
        return self._server.connection(on_closed)

    async def close(self, grace: float) -> None:
        """End idle connections now, the others when their request is done, or cut them after `grace` seconds."""
        await self._server.close(grace)

    # --- one request --------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and see to it that the answer leaves: a peer that does not read it is cut off."""
        step = (
            GatewayStep(request.headers.get(HeaderField.STEP, GatewayStep.DECIDE)) if self._nginx is not None else None
        )
        try:
            response = await self._respond(request, step)
        except TawaraError as error:
            response = _refusal(request, error)
        except RequestPayloadError:
            response = plain(400, "The body broke off, or is not chunked as it says")
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("request failed", method=request.method)
            response = plain(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)
        if response.prepared:
            return response
        response.headers.setdefault(hdrs.SERVER, SERVER)
        if step is GatewayStep.ADMIT:
            response = _verdict(response)
        return await send_response(request, response, timeout=self._limits.stalled_body)

    async def _respond(self, request: web.BaseRequest, step: GatewayStep | None) -> web.StreamResponse:
        if not HttpVersion10 <= request.version <= HttpVersion11:
            raise VersionNotSupported
        target = parse_target(request.raw_path)
        method = "PUT" if step in (GatewayStep.ADMIT, GatewayStep.STORE, GatewayStep.UNRECEIVED) else request.method
        if method not in METHODS.split(", "):
            raise MethodNotAllowed
        if method != "PUT" and request.body_exists:
            raise TooLarge("The body is too large, or has no place here")
        if method == "OPTIONS":
            return web.Response(status=204, headers={hdrs.ALLOW: METHODS})
        if target.domain in ("", _RESERVED):
            return await self._own(target, method)
        reads = method in ("GET", "HEAD")
        if not (reads and self._public_reads and target.key):
            self._authorise(request)
        domain = self._domain(target.domain)
        if reads:
            return await self._get(request, domain, target, step)
        if not target.key:
            raise NoKey("A file needs a key: /DOMAIN/KEY")
        if method == "PUT":
            return await self._put(request, domain, target, step)
        await self._writer.delete(domain, target.key, _conditions(request))
        return web.Response(status=204)

    async def _own(self, target: Target, method: str) -> web.StreamResponse:
        """What is not in a domain: what this is, and whether it is well."""
        if method not in ("GET", "HEAD"):
            raise MethodNotAllowed
        if not target.domain and not target.key:
            return _json({"name": "tawara", "version": tawara.__version__, "files": "/DOMAIN/KEY"})
        if target.domain == _RESERVED and target.key == b"health":
            await self._metadata.read(files.find_fid, 0)
            return _json({"status": "ok"})
        raise NotFoundError

    def _authorise(self, request: web.BaseRequest) -> None:
        """Raises DeniedError unless the request carries the secret (RFC 6750, section 2.1)."""
        scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        offered = token.strip().encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(offered, self._secret) or scheme.lower() != "bearer" or not self._secret:
            raise DeniedError

    def _domain(self, name: str) -> Domain:
        domain = self._view.current.domains.get(name)
        if domain is None:
            raise UnregDomain("There is no such domain")
        return domain

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _get(
        self, request: web.BaseRequest, domain: Domain, target: Target, step: GatewayStep | None
    ) -> web.StreamResponse:
        if not target.key:
            return await self._list(domain, target)
        stored = await self._find(domain, target)
        for _ in range(_LOOK_UPS):
            try:
                return await self._give(request, stored, step)
            except NoSource:  # before the first byte
                now = await self._find(domain, target)
                if (now.fid, now.devids) == (stored.fid, stored.devids):
                    raise
                stored = now  # overwritten or moved meanwhile, and the bytes that it had are gone already
        raise NoSource

    async def _find(self, domain: Domain, target: Target) -> StoredFile:
        stored = await self._metadata.read(files.find, domain.dmid, target.key)
        if stored is None:
            raise UnknownKey
        return stored

    async def _give(self, request: web.BaseRequest, stored: StoredFile, step: GatewayStep | None) -> web.StreamResponse:
        """Answer a GET or HEAD of a file. Raises NoSource while nothing is sent."""
        conditions = _conditions(request)
        asked = request.headers.get(hdrs.RANGE)
        answer = reading.decide(stored, conditions, asked, head=request.method == "HEAD")
        if answer.status == 412:
            return plain(412, "It is not, or no longer, as the request demands")
        if answer.status == 416:
            return plain(416, "No byte of the file is in the range", **_named(answer.headers))
        if answer.part is None:
            return web.Response(status=answer.status, headers=answer.headers)
        devids = reading.devices_to_read(self._view.current, stored, self._rng)
        if not devids:
            devids = reading.devices_to_read(await self._view.look_for(stored.devids), stored, self._rng)
        urls = [url for devid in devids if (url := self._view.current.url(devid, stored.fid, get=True))]
        if self._reproxy and "reproxy-file" in request.headers.get("X-Proxy-Capabilities", ""):
            return _reproxied(stored, urls)
        if step is GatewayStep.DECIDE and not conditions.guarded and _nginx_understands(request, answer):
            replicas = await self._places.of(self._view.current, stored, devids)
            return _to_nginx(answer, replicas)
        return await self._stream(request, answer, urls, stored.length)

    async def _stream(
        self, request: web.BaseRequest, answer: reading.ReadResponse, urls: list[str], size: int
    ) -> web.StreamResponse:
        """Send the body ourselves. What goes wrong after the first byte can only be told by cutting off."""
        assert answer.part is not None
        timeout = self._limits.stalled_body
        pieces = read_somewhere(self._nodes, urls, answer.part, size, timeout=self._limits.node_answer)
        try:
            piece = await anext(pieces, b"")
            response = web.StreamResponse(status=answer.status, headers={**answer.headers, hdrs.SERVER: SERVER})
            try:
                async with asyncio.timeout(timeout):
                    await response.prepare(request)
                while piece:
                    async with asyncio.timeout(timeout):
                        await response.write(piece)
                    piece = await anext(pieces, b"")
                async with asyncio.timeout(timeout):
                    await response.write_eof()
            except (TimeoutError, NoSource):
                raise abort(request) from None
            return response
        finally:
            await pieces.aclose()

    async def _list(self, domain: Domain, target: Target) -> web.StreamResponse:
        asked = target.parameters()
        limit = asked.get("limit", b"")
        if limit and not limit.isdigit():
            raise UsageError("limit is a whole number")
        count = min(max(int(limit[:9] or LIST_KEYS), 1), LIST_KEYS)
        prefix, after = asked.get("prefix", b""), asked.get("after")
        found = await self._metadata.read(files.list_files, domain.dmid, prefix, after, count)
        following = None
        if len(found) == count:
            query = path_of("", found[-1].key)[2:].replace("&", "%26").replace("+", "%2B")
            start = path_of("", prefix)[2:].replace("&", "%26").replace("+", "%2B")
            following = f"{path_of(domain.name, b'')}?prefix={start}&limit={count}&after={query}"
        return _json(
            {
                "domain": domain.name,
                "files": [_described(domain, stored) for stored in found],
                "next": following,
            }
        )

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _put(
        self, request: web.BaseRequest, domain: Domain, target: Target, step: GatewayStep | None
    ) -> web.StreamResponse:
        order = _order(request, domain, target)
        if step is GatewayStep.UNRECEIVED:
            assert self._nginx is not None
            await self._nginx.check_spool(order.length or 0)
            raise SpoolFull
        if step is GatewayStep.STORE:
            assert self._nginx is not None
            body = self._nginx.spool.body(request.headers.get(HeaderField.BODY, ""))
            if body is None:
                raise MalformedRequest
            try:
                return _stored(await self._writer.store_file(order, body), domain, target)
            except Exception:
                if await self._nginx.has_body(body):
                    raise
                raise ConnectionResetError from None  # the client left, and nginx removed what it had received
        length = self._length(request, step)
        if order.length is not None and length not in (None, order.length):
            raise MalformedRequest(NOT_WHOLE)
        await self._writer.check(order)
        if step is GatewayStep.ADMIT:
            assert self._nginx is not None
            await self._nginx.check_spool(length or 0)
            return plain(204)
        await send_continue(request)
        return _stored(await self._writer.store_stream(order, self._body(request), length), domain, target)

    def _length(self, request: web.BaseRequest, step: GatewayStep | None) -> int | None:
        """The announced bytes of the body, None if it comes in chunks. Raises LengthRequired, TooLarge."""
        if step is GatewayStep.ADMIT:
            text, coding = request.headers.get(HeaderField.LENGTH, ""), request.headers.get(HeaderField.CODING)
            length = int(text) if text.isdigit() else None
        else:
            length, coding = request.content_length, request.headers.get(hdrs.TRANSFER_ENCODING)
        return body_length(length, coding, most=self._limits.upload)

    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        """The body as it comes. Raises Stalled, TooLarge, RequestPayloadError."""
        received = 0
        while True:
            try:
                async with asyncio.timeout(self._limits.stalled_body):
                    piece = await request.content.readany()
            except TimeoutError:
                raise Stalled from None
            if not piece:
                return
            received += len(piece)
            if received > self._limits.upload:
                raise TooLarge
            yield piece


# --- requests and answers ---------------------------------------------------------------------------------------------


def _conditions(request: web.BaseRequest) -> Conditions:
    def field(name: str) -> str | None:
        return ", ".join(request.headers.getall(name, ())) if name in request.headers else None

    return Conditions(
        if_match=field(hdrs.IF_MATCH),
        if_unmodified_since=field(hdrs.IF_UNMODIFIED_SINCE),
        if_none_match=field(hdrs.IF_NONE_MATCH),
        if_modified_since=field(hdrs.IF_MODIFIED_SINCE),
        if_range=field(hdrs.IF_RANGE),
    )


def _order(request: web.BaseRequest, domain: Domain, target: Target) -> PutRequest:
    """What a PUT asks for. Raises UsageError in many ways, UnregClass."""
    headers = request.headers
    try:
        target.key.decode()
    except UnicodeDecodeError:
        raise InvalidKey("A key is UTF-8") from None
    if headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedCoding
    storage_class = domain.class_named(target.parameters().get("class", b"").decode("utf-8", "replace"))
    if storage_class is None:
        raise UnregClass("There is no such class in the domain")
    return PutRequest(
        domain=domain,
        key=target.key,
        storage_class=storage_class,
        content_type=reading.media_type(headers.get(hdrs.CONTENT_TYPE)),
        md5=content_md5(headers.get(hdrs.CONTENT_MD5)),
        conditions=_conditions(request),
        length=whole_length(headers.get(hdrs.CONTENT_RANGE)),
    )


def _refusal(request: web.BaseRequest, error: TawaraError) -> web.Response:
    """One plain sentence. What went wrong inside, and where, is for the log."""
    if error.http >= 500:
        log.warning("request refused", method=request.method, status=error.http, reason=error.message)
        return plain(error.http, (type(error).__doc__ or "").strip())
    response = plain(error.http, error.message)
    if error.http == 401:
        invalid = ', error="invalid_token"' if hdrs.AUTHORIZATION in request.headers else ""
        response.headers[hdrs.WWW_AUTHENTICATE] = f'Bearer realm="tawara"{invalid}'
    if error.http == 405:
        response.headers[hdrs.ALLOW] = METHODS
    return response


def _verdict(response: web.StreamResponse) -> web.Response:
    """An answer in the words of nginx's auth_request: 204, or 403 with what to tell the client."""
    if response.status == 204:
        return plain(204)
    body = response.body if isinstance(response, web.Response) else b""
    fields = {
        HeaderField.STATUS: str(response.status),
        HeaderField.SENTENCE: body.decode().strip() if isinstance(body, bytes) else "",
        HeaderField.CHALLENGE: response.headers.get(hdrs.WWW_AUTHENTICATE, ""),
    }
    return web.Response(status=403, headers={str(name): value for name, value in fields.items()})


def _nginx_understands(request: web.BaseRequest, answer: reading.ReadResponse) -> bool:
    """Whether nginx, which cuts a range out of a local file by the client's own fields, comes to the same part."""
    if not answer.partial:
        return True
    asked, guard = request.headers[hdrs.RANGE], request.headers.get(hdrs.IF_RANGE, "")
    if request.headers.get(HeaderField.ASKED) != f"<{asked}><{guard}>":
        return False
    return ranges.is_plain(asked) and guard in ("", answer.headers["ETag"], answer.headers.get("Last-Modified"))


def _to_nginx(answer: reading.ReadResponse, replicas: list[ReplicaLocation]) -> web.Response:
    if not replicas:
        raise NoSource
    # 204: an answer without a body, after which nginx keeps its connection to us.
    return web.Response(status=204, headers=redirect(answer, replicas))


def _reproxied(stored: StoredFile, urls: list[str]) -> web.Response:
    """Perlbal's way (docs/mogilefs.md 22): the front end fetches the first URL that gives it the right size."""
    if not urls:
        raise NoSource
    headers = {
        **reading.entity_headers(stored),
        hdrs.CONTENT_TYPE: reading.type_of(stored),
        "X-REPROXY-URL": " ".join(urls),
        "X-REPROXY-EXPECTED-SIZE": str(stored.length),
    }
    return web.Response(status=200, headers=headers)


def _stored(receipt: PutResult, domain: Domain, target: Target) -> web.Response:
    headers = {"ETag": receipt.etag}
    if not receipt.created:
        return web.Response(status=204, headers=headers)
    return web.Response(status=201, headers=headers | {"Location": path_of(domain.name, target.key)})


def _described(domain: Domain, stored: StoredFile) -> dict[str, Any]:
    storage_class = domain.classes.get(stored.classid)
    return {
        "key": stored.key.decode("utf-8", "replace"),
        "path": path_of(domain.name, stored.key),
        "length": stored.length,
        "type": reading.type_of(stored),
        "etag": reading.validators(stored).etag,
        "modified": None if stored.stored_at is None else http_date(stored.stored_at),
        "class": storage_class.name if storage_class else None,
        "copies": len(stored.devids),
    }


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value) + b"\n", content_type=_JSON)


def _named(headers: Any) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}
