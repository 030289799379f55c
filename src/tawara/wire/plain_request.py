"""Fast parser for the common form of requests to a storage node or to the gateway (RFC 9112); encodes response heads.

A plain request has one of a few methods, a path, header fields of printable ASCII, each at most once, and a
Content-Length if it has a body. All others, rare (chunked bodies, Expect, absolute form) or malformed, are left to the
full HTTP server. So this parser is strict: lenient parsing is what makes request smuggling possible.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

REPLACE: Final = "Tawara-Replace"
"""Header field of a PUT that replaces any content that the storage node holds under the fid; its value is ignored."""
CONFLICT: Final = "Tawara-Conflict"
"""Header field of a 409 response to a PUT: the storage node holds other content under the fid."""
_FIELDS: Final = rb" HTTP/1\.([01])\r\n((?:[!#$%&'*+.^`|~\w-]++:[\t\x20-\x7e]*+\r\n)*+)\r\n"
NODE: Final = re.compile(rb"(GET|HEAD|PUT|DELETE|MKCOL) (/[\w./-]*+)(?:\?[\x21-\x7e]*+)?" + _FIELDS, re.ASCII)
"""Form of the requests to a storage node: a path of a device, without escapes; a query is dropped."""
GATEWAY: Final = re.compile(rb"(GET|HEAD|PUT|DELETE|OPTIONS) (/[\x21-\x7e]*+)" + _FIELDS, re.ASCII)
"""Form of the requests that nginx sends to the gateway: any path, with its query."""
_STRANGE: Final = frozenset({b"transfer-encoding", b"expect", b"content-range", b"upgrade"})
_MOST_FIELDS: Final = 100
_VERSION: Final = len(" HTTP/1.")


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
    if match is None or match.end() != end + 4:
        raise NotPlain
    lines = match[4].split(b"\r\n")
    lines.pop()
    fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip()
    if len(fields) != len(lines) or len(lines) > _MOST_FIELDS or not _STRANGE.isdisjoint(fields):
        raise NotPlain
    length = fields.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 19:
        raise NotPlain
    if (method := match[1].decode()) == "PUT":
        if b"content-length" not in fields:
            raise NotPlain
    elif length.strip(b"0"):
        raise NotPlain
    minor = match[3] == b"1"
    if minor and b"host" not in fields:
        raise NotPlain
    connection = fields.get(b"connection", b"keep-alive" if minor else b"close").lower()
    if connection not in (b"keep-alive", b"close"):
        raise NotPlain
    keep = connection == b"keep-alive"
    query = data[match.end(2) + 1 : match.start(3) - _VERSION].decode()
    return PlainRequest(method, match[2].decode(), int(length), keep, int(minor), fields, query), end + 4


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
