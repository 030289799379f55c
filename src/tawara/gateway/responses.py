"""Builds the responses of the gateway from values: no I/O."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from aiohttp import hdrs, web

from tawara.gateway import reading
from tawara.gateway.acceleration import ReplicaLocation, redirect
from tawara.gateway.nginx_configuration import METHODS, HeaderField
from tawara.http1.connections import plain
from tawara.model.cluster import Domain
from tawara.model.errors import NoSource, TawaraError
from tawara.model.files import StoredFile
from tawara.store.conditions import validators
from tawara.store.service import FilePage
from tawara.store.writer import WriteRequest, WriteResult
from tawara.wire.http import http_date, path_of

log = structlog.get_logger(__name__)

_JSON: Final = "application/json"


def refusal(request: web.BaseRequest, error: TawaraError) -> web.Response:
    """Return the response to a failed request: one sentence. Internal causes are only logged."""
    if error.http >= 500:
        log.warning("request_failed", method=request.method, status=error.http, reason=error.message)
        return plain(error.http, type(error).message)
    response = plain(error.http, error.message)
    if error.http == 401:
        invalid = ', error="invalid_token"' if hdrs.AUTHORIZATION in request.headers else ""
        basic = 'Basic realm="tawara", charset="UTF-8"'
        response.headers[hdrs.WWW_AUTHENTICATE] = f'Bearer realm="tawara"{invalid}, {basic}'
    if error.http == 405:
        response.headers[hdrs.ALLOW] = METHODS
    return response


def internal_error() -> web.Response:
    """Return the response to a request that failed by a defect, without details."""
    return plain(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)


def verdict(response: web.StreamResponse) -> web.Response:
    """Return a response for nginx's auth_request: 204, or 403 with the response that nginx sends to the client."""
    if response.status == 204:
        return plain(204)
    body = response.body if isinstance(response, web.Response) else b""
    fields = {
        HeaderField.STATUS: str(response.status),
        HeaderField.ERROR_TEXT: body.decode().strip() if isinstance(body, bytes) else "",
        HeaderField.CHALLENGE: response.headers.get(hdrs.WWW_AUTHENTICATE, ""),
    }
    return web.Response(status=403, headers={str(name): value for name, value in fields.items()})


def to_nginx(answer: reading.ReadResponse, replicas: list[ReplicaLocation]) -> web.Response:
    """Return the response by which nginx sends the body itself. Raises NoSource without a replica."""
    if not replicas:
        raise NoSource
    # 204: a response without a body, after which nginx keeps its connection to the gateway.
    return web.Response(status=204, headers=redirect(answer, replicas))


def reproxied(stored: StoredFile, urls: list[str]) -> web.Response:
    """Return a reproxy response as for Perlbal (docs/mogilefs.md 22): the front end fetches the first working URL.

    Raises NoSource without a URL.
    """
    if not urls:
        raise NoSource
    headers = {
        **reading.entity_headers(stored),
        hdrs.CONTENT_TYPE: reading.type_of(stored),
        "X-REPROXY-URL": " ".join(urls),
        "X-REPROXY-EXPECTED-SIZE": str(stored.length),
    }
    return web.Response(status=200, headers=headers)


def stored(wanted: WriteRequest, result: WriteResult) -> web.Response:
    """Return the response to a PUT that was stored: 201 for a new key, 204 for one that was overwritten."""
    headers = {"ETag": result.etag}
    if not result.created:
        return web.Response(status=204, headers=headers)
    return web.Response(status=201, headers=headers | {"Location": path_of(wanted.domain.name, wanted.key)})


def listing(domain: Domain, prefix: bytes, limit: int, page: FilePage) -> web.Response:
    """Return a page of files as JSON, with the path of the next page."""
    following = None
    if page.next_after is not None:
        after, start = _in_query(page.next_after), _in_query(prefix)
        following = f"{path_of(domain.name, b'')}?prefix={start}&limit={limit}&after={after}"
    files = [_described(domain, each) for each in page.files]
    return as_json({"domain": domain.name, "files": files, "next": following})


def _in_query(key: bytes) -> str:
    return path_of("", key)[2:].replace("&", "%26").replace("+", "%2B")


def _described(domain: Domain, stored: StoredFile) -> dict[str, Any]:
    storage_class = domain.classes.get(stored.classid)
    return {
        "key": stored.key.decode("utf-8", "replace"),
        "path": path_of(domain.name, stored.key),
        "length": stored.length,
        "type": reading.type_of(stored),
        "etag": validators(stored).etag,
        "modified": None if stored.stored_at is None else http_date(stored.stored_at),
        "class": storage_class.name if storage_class else None,
        "copies": len(stored.devids),
    }


def as_json(value: object) -> web.Response:
    """Return a value as JSON."""
    return web.Response(body=msgspec.json.encode(value) + b"\n", content_type=_JSON)
