"""Turns a web application's response that names a file into one with the file: pure decisions of the middleware.

An application names a file by the header field FIELD, whose value is the path `/DOMAIN/KEY`. Behind a balancer (the
gateway's nginx, or another one with the configuration of `tawara nginx-config`) the field becomes X-Accel-Redirect, and
the balancer sends the file; without one the middleware sends it itself. Clients see no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from tawara.client.replies import FileInfo
from tawara.model.errors import NotFoundError, TawaraError
from tawara.wire import ranges
from tawara.wire.http import ConditionResult, Conditions, Validators, entity_tag, http_date, parse_target, path_of

FIELD: Final = "X-Tawara-File"
ACCEL: Final = "X-Accel-Redirect"
NAMED: Final = "/_tawara"
"""Where a balancer looks for files that applications name."""
_OF_THE_BODY: Final = frozenset(("content-length", "etag", "last-modified", "accept-ranges", "content-range"))
_NOT_OF_ERRORS: Final = frozenset(
    ("content-type", "content-disposition", "content-encoding", "cache-control", "expires", "vary", "link")
)
Fields = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class FileReply:
    """The head of a response, and the part of the file that is its body."""

    status: int
    fields: Fields
    body: bytes = b""
    """The body of an error."""
    start: int = 0
    end: int = 0
    """The bytes of the file from `start` up to but excluding `end`; none if both are equal."""

    @property
    def status_line(self) -> str:
        """Status and reason, as WSGI wants them."""
        return f"{self.status} {HTTPStatus(self.status).phrase}"


def tawara_file(domain: str, key: str | bytes) -> dict[str, str]:
    """Return the header field by which an application names a file, for the headers of its response."""
    data = key if isinstance(key, bytes) else key.encode("utf-8", "surrogateescape")
    return {FIELD: path_of(domain, data)}


def find_named(fields: Iterable[tuple[str, str]]) -> str | None:
    """Return the path of the file that a response names; None if it names none."""
    return next((value for name, value in fields if name.lower() == FIELD.lower()), None)


def redirect(fields: Fields, path: str) -> list[tuple[str, str]]:
    """Return the fields by which a balancer sends the file at `path`; the body is empty."""
    kept = [each for each in fields if each[0].lower() not in {FIELD.lower(), *_OF_THE_BODY}]
    return [*kept, (ACCEL, NAMED + path), ("Content-Length", "0")]


def parse_path(path: str) -> tuple[str, bytes]:
    """Return domain and key of the file at `path`. Raises UsageError, NotFoundError."""
    target = parse_target(path)
    if not target.domain or not target.key:
        raise NotFoundError
    return target.domain, target.key


def reply_with(info: FileInfo, method: str, asked: Mapping[str, str], own: Fields) -> FileReply:
    """Return the response with a file (RFC 9110, sections 13 and 14).

    `asked`: the client's header fields by lower-case names; `own`: those of the application's response, which are kept.
    """
    current = Validators(entity_tag(info.fid, info.length), info.stored_at)
    known = [("ETag", current.etag)]
    if current.modified is not None:
        known.append(("Last-Modified", http_date(current.modified)))
    conditions = Conditions(
        if_match=asked.get("if-match"),
        if_unmodified_since=asked.get("if-unmodified-since"),
        if_none_match=asked.get("if-none-match"),
        if_modified_since=asked.get("if-modified-since"),
        if_range=asked.get("if-range"),
    )
    kept = [each for each in own if each[0].lower() not in {FIELD.lower(), *_OF_THE_BODY}]
    kept = [(name, value) for name, value in kept if value or name.lower() != "content-type"]
    verdict = conditions.judge(current, reading=True)
    if verdict is ConditionResult.NOT_MODIFIED:
        return FileReply(304, [*(each for each in kept if each[0].lower() != "content-type"), *known])
    if verdict is ConditionResult.FAILED:
        return error_reply(412, "Precondition failed", own)
    if not any(name.lower() == "content-type" for name, _ in kept):
        kept.append(("Content-Type", info.content_type or "application/octet-stream"))
    known += [("Accept-Ranges", "bytes"), ("X-Content-Type-Options", "nosniff")]
    field = asked.get("range") if method == "GET" and conditions.ranges_apply(current) else None
    span = ranges.resolve(field, info.length)
    if span is ranges.NotPartial.UNSATISFIABLE:
        reply = error_reply(416, "No byte of the file is in the range", own)
        return FileReply(416, [*reply.fields, ("Content-Range", f"bytes */{info.length}")], reply.body)
    if isinstance(span, ranges.Span):
        known += [("Content-Length", str(span.length)), ("Content-Range", span.content_range(info.length))]
        return FileReply(206, [*kept, *known], start=span.start, end=span.start + span.length)
    known.append(("Content-Length", str(info.length)))
    return FileReply(200, [*kept, *known], end=info.length if method == "GET" else 0)


def error_reply(status: int, text: str, own: Fields) -> FileReply:
    """Return an error as one line of text, without the application's fields about the file."""
    body = f"{text}\n".encode()
    kept = [each for each in own if each[0].lower() not in {FIELD.lower(), *_OF_THE_BODY, *_NOT_OF_ERRORS}]
    return FileReply(status, [*kept, ("Content-Type", "text/plain"), ("Content-Length", str(len(body)))], body)


def failed_reply(error: TawaraError, own: Fields) -> FileReply:
    """Return the response for a file that cannot be sent."""
    if error.http >= 500:
        return error_reply(503, "The file cannot be read now; try again", own)
    return error_reply(404, "Not found", own)
