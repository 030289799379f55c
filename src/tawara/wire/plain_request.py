"""Fast parser for the common form of requests to a storage node or to the gateway (RFC 9112); encodes response heads.

A plain request has one of a few methods, a path, header fields of printable ASCII, each at most once, and a
Content-Length if it has a body. All others, rare (chunked bodies, Expect, absolute form) or malformed, are left to the
full HTTP server. So this parser is strict: lenient parsing is what makes request smuggling possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple

REPLACE: Final = "Tawara-Replace"
"""Header field of a PUT that replaces any content that the storage node holds under the fid; its value is ignored."""
CONFLICT: Final = "Tawara-Conflict"
"""Header field of a 409 response to a PUT: the storage node holds other content under the fid."""
_VERSION: Final = rb" HTTP/1\.([01])\r\n"
NODE: Final = re.compile(rb"(GET|HEAD|PUT|DELETE|MKCOL) (/[\w./-]*+)(?:\?[\x21-\x7e]*+)?" + _VERSION, re.ASCII)
"""Request lines to a storage node: a path of a device, without escapes; a query is dropped."""
GATEWAY: Final = re.compile(rb"(GET|HEAD|PUT|DELETE|OPTIONS) (/[\x21-\x7e]*+)" + _VERSION, re.ASCII)
"""Request lines that nginx sends to the gateway: any path, with its query."""
_FIELDS: Final = re.compile(rb"(?:[!#$%&'*+.^`|~\w-]++:[\t\x20-\x7e]*+\r\n)*+\r\n", re.ASCII)
_STRANGE: Final = frozenset({b"transfer-encoding", b"expect", b"content-range", b"upgrade"})
_MOST_FIELDS: Final = 100
_BEFORE_MINOR: Final = len(" HTTP/1.")
_CACHED_FIELDS: Final = 1024
"""Longest block of header fields that is cached, bytes."""


class PlainRequest(NamedTuple):
    """The head of a plain request."""

    method: str
    target: str
    """The path, undecoded; for a storage node without query."""
    length: int
    """Length of the body in bytes."""
    keep: bool
    """Whether the connection stays open for another request."""
    minor: int
    """1 for HTTP/1.1, 0 for HTTP/1.0."""
    fields: Mapping[bytes, bytes]
    """Header fields by lower-case name."""
    query: str = ""
    """Query of a request to a storage node, without the question mark."""

    def field(self, name: bytes) -> str | None:
        """Return the value of a header field."""
        value = self.fields.get(name)
        return None if value is None else value.decode("ascii")


class NotPlain(Exception):
    """The request is not in the plain form."""


def parse(data: bytes, most: int, form: re.Pattern[bytes] = NODE) -> tuple[PlainRequest, int] | None:
    """Parse the request at the beginning of `data`; return it with the length of its head; None while incomplete.

    Raises NotPlain if the head has not the plain `form` or exceeds `most` bytes.
    """
    end = data.find(b"\r\n\r\n", 0, most)
    if end < 0:
        if len(data) >= most:
            raise NotPlain
        return None
    match = form.match(data)
    if match is None:
        raise NotPlain
    block = data[match.end() : end + 4]
    parsed = _parse_cached(block) if len(block) <= _CACHED_FIELDS else _parse_fields(block)
    if parsed is None:
        raise NotPlain
    fields, length, connection = parsed
    if (method := match[1].decode()) == "PUT":
        if length is None:
            raise NotPlain
    elif length:
        raise NotPlain
    minor = match[3] == b"1"
    if minor and b"host" not in fields:
        raise NotPlain
    keep = minor if connection is None else connection == b"keep-alive"
    query = data[match.end(2) + 1 : match.start(3) - _BEFORE_MINOR].decode()
    return PlainRequest(method, match[2].decode(), length or 0, keep, int(minor), fields, query), end + 4


def _parse_fields(block: bytes) -> tuple[Mapping[bytes, bytes], int | None, bytes | None] | None:
    """Parse header fields up to and with the empty line: by lower-case name, Content-Length, Connection.

    Return None if they do not have the plain form.
    """
    if _FIELDS.fullmatch(block) is None:
        return None
    lines = block[:-4].split(b"\r\n") if len(block) > 2 else []
    fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    if len(fields) != len(lines) or len(lines) > _MOST_FIELDS or not _STRANGE.isdisjoint(fields):
        return None
    length = fields.get(b"content-length")
    if length is not None and (not length.isdigit() or len(length) > 19):
        return None
    connection = fields.get(b"connection")
    if connection is not None:
        connection = connection.lower()
        if connection not in (b"keep-alive", b"close"):
            return None
    return MappingProxyType(fields), None if length is None else int(length), connection


_parse_cached: Final = lru_cache(512)(_parse_fields)
"""A client's requests differ in their targets and seldom in their fields, which cost more to parse than all else."""


def head(request: PlainRequest, status: int, fields: Iterable[tuple[str, str]], *, keep: bool) -> bytes:
    """Encode the head of the response to `request`, including the Connection field."""
    if keep and not request.minor:
        connection = "Connection: keep-alive\r\n"
    elif not keep and request.minor:
        connection = "Connection: close\r\n"
    else:
        connection = ""
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    return f"HTTP/1.{request.minor} {_STATUS[status]}\r\n{lines}{connection}\r\n".encode("ascii")


_STATUS: Final = {each.value: f"{each.value} {each.phrase}" for each in HTTPStatus}
