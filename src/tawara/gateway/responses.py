"""Builds the replies of the gateway from values: no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
import structlog
from aiohttp import hdrs

from tawara.gateway import reading
from tawara.gateway.acceleration import ReplicaLocation, redirect
from tawara.gateway.nginx_protocol import METHODS, STREAM, HeaderField
from tawara.gateway.requests import HttpRequest
from tawara.http1.reply import TEXT_FIELDS, Reply, text_reply
from tawara.model.cluster import Domain
from tawara.model.errors import NoSource, TawaraError
from tawara.model.files import StoredFile
from tawara.store.conditions import validators
from tawara.store.service import FilePage
from tawara.store.writer import WriteRequest, WriteResult
from tawara.wire.http import http_date, path_of

log = structlog.get_logger(__name__)


def refusal(request: HttpRequest, error: Exception) -> Reply:
    """Return the reply to a failed request: one sentence. Internal causes are only logged."""
    if not isinstance(error, TawaraError):
        log.error("request_failed", method=request.method, exc_info=error)
        return text_reply(500, HTTPStatus.INTERNAL_SERVER_ERROR.phrase)
    if error.http >= 500:
        log.warning("request_failed", method=request.method, status=error.http, reason=error.message)
        return text_reply(error.http, type(error).message)
    fields = dict(TEXT_FIELDS)
    if error.http == 401:
        invalid = ', error="invalid_token"' if hdrs.AUTHORIZATION in request.headers else ""
        basic = 'Basic realm="tawara", charset="UTF-8"'
        fields[hdrs.WWW_AUTHENTICATE] = f'Bearer realm="tawara"{invalid}, {basic}'
    if error.http == 405:
        fields[hdrs.ALLOW] = METHODS
    return text_reply(error.http, error.message, fields)


def verdict(reply: Reply) -> Reply:
    """Return a reply for nginx's auth_request: 204, or 403 with the reply that nginx sends to the client."""
    if reply.status == 204:
        return Reply(204)
    fields = {
        HeaderField.STATUS: str(reply.status),
        HeaderField.ERROR_TEXT: reply.body.decode().strip(),
        HeaderField.CHALLENGE: reply.fields.get(hdrs.WWW_AUTHENTICATE, ""),
    }
    return Reply(403, {str(name): value for name, value in fields.items()})


def bare_verdict(reply: Reply) -> Reply:
    """Return a reply for nginx's auth_request without text: nginx asks again for the refusal."""
    return Reply(204 if reply.status == 204 else 403, {})


def to_nginx(answer: reading.ReadResponse, replicas: Sequence[ReplicaLocation]) -> Reply:
    """Return the reply by which nginx sends the body itself. Raises NoSource without a replica."""
    if not replicas:
        raise NoSource
    # 204: a reply without a body, after which nginx keeps its connection to the gateway.
    return Reply(204, redirect(answer, replicas))


STREAMED_BY_PYTHON: Final = Reply(204, {"X-Accel-Redirect": STREAM})
"""The reply by which nginx asks again for a body that it cannot send, to get it from the complete server."""


def reproxied(stored: StoredFile, urls: list[str]) -> Reply:
    """Return a reproxy reply as for Perlbal (docs/mogilefs.md 22): the front end fetches the first working URL.

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
    return Reply(200, headers)


def stored(wanted: WriteRequest, result: WriteResult) -> Reply:
    """Return the reply to a PUT that was stored: 201 for a new key, 204 for one that was overwritten."""
    fields = {"ETag": result.etag}
    if not result.created:
        return Reply(204, fields)
    return Reply(201, fields | {"Location": path_of(wanted.domain.name, wanted.key)})


def listing(domain: Domain, prefix: bytes, limit: int, page: FilePage) -> Reply:
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


def as_json(value: object) -> Reply:
    """Return a value as JSON."""
    return Reply(200, {"Content-Type": "application/json"}, msgspec.json.encode(value) + b"\n")
