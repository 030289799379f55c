"""The replies of a storage node to file requests, for the fast path and the complete server (docs/mogilefs.md 18.1)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import structlog

from tawara.disks.reading import OpenedFile
from tawara.http1.reply import TEXT_FIELDS, Reply, text_reply
from tawara.model.errors import TawaraError
from tawara.model.node_errors import DeviceFailed, DirectoryInstead, OtherContent
from tawara.wire import ranges
from tawara.wire.http import http_date
from tawara.wire.plain_request import CONFLICT
from tawara.wire.ranges import Span

log = structlog.get_logger(__name__)

NO_LISTING: Final = text_reply(200, "Directory listing disabled")


def refusal(error: Exception, method: str, path: str) -> Reply:
    """Make the reply to a request that failed with `error`. Unexpected errors are logged, not described."""
    if isinstance(error, DirectoryInstead) and method in ("GET", "HEAD"):
        return NO_LISTING
    status = error.http if isinstance(error, TawaraError) else 500
    if isinstance(error, DeviceFailed):
        log.warning("request_failed", method=method, path=path, reason=str(error.__cause__ or error))
    elif status == 500:
        log.error("request_failed", method=method, path=path, exc_info=error)
    if isinstance(error, OtherContent):
        return text_reply(status, str(error), {**TEXT_FIELDS, CONFLICT: "other-content"})
    return text_reply(status, HTTPStatus(status).phrase if status == 500 else str(error))


def of_file(found: OpenedFile, *, wanted: str | None, if_range: str | None, if_modified_since: str | None) -> Reply:
    """Make the reply to GET or HEAD of an existing file; `wanted` is the Range field.

    Dates are compared as text, since clients send back the Last-Modified that this node sent.
    """
    size, modified = found.file.size, http_date(found.file.modified)
    fields = {"Last-Modified": modified, "Accept-Ranges": "bytes"}
    if if_modified_since == modified:
        return Reply(304, fields)
    span = ranges.resolve(wanted if if_range is None or if_range == modified else None, size)
    if span is ranges.NotPartial.UNSATISFIABLE:
        return text_reply(416, "No such range", {**TEXT_FIELDS, "Content-Range": f"bytes */{size}"})
    if isinstance(span, Span):
        status, fields["Content-Range"] = 206, span.content_range(size)
    else:
        status, span = 200, Span(0, size)
    fields["Content-Type"] = "text/plain"
    if found.body is None:
        return Reply(status, fields, part=span)
    whole = status == 200
    return Reply(status, fields, found.body if whole else found.body[span.start : span.start + span.length])
