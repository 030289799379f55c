"""Requests to a storage node in the plain form in which nearly all of them come (RFC 9112), and the heads of answers.

What is plain is read here at little cost: one of five methods, a path, fields of printable ASCII, each at most once,
and a body, if any, whose length is said. Everything else, be it rarer (chunks, Expect, a proxy's absolute form) or
wrong, is left to a whole HTTP server. So nothing here has to be lenient, which is where request smuggling begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

REPLACE: Final = "Tawara-Replace"
"""Field of a PUT that replaces whatever content the storage node holds under this fid, whatever its value."""
CONFLICT: Final = "Tawara-Conflict"
"""Field of a 409 that refuses a PUT because the storage node holds other content under this fid."""
_HEAD: Final = re.compile(
    rb"(GET|HEAD|PUT|DELETE|MKCOL) (/[\w./-]*+)(?:\?[\x21-\x7e]*+)? HTTP/1\.([01])\r\n"
    rb"((?:[!#$%&'*+.^`|~\w-]++:[\t\x20-\x7e]*+\r\n)*+)\r\n",
    re.ASCII,
)
_STRANGE: Final = frozenset({b"transfer-encoding", b"expect", b"content-range", b"upgrade"})
_MOST_FIELDS: Final = 100


class PlainRequest(NamedTuple):
    """A request's head."""

    method: str
    target: str
    """The path, undecoded, without query."""
    length: int
    """Bytes of the body."""
    keep: bool
    """Whether the connection is to be kept for another request."""
    minor: int
    """1 for HTTP/1.1, 0 for HTTP/1.0."""
    fields: Mapping[bytes, bytes]
    """By lower-case name."""

    def field(self, name: bytes) -> str | None:
        """A field's value."""
        value = self.fields.get(name)
        return None if value is None else value.decode("ascii")


class NotPlain(Exception):
    """Not plain, whatever it is"""


def parse(data: bytes, most: int) -> tuple[PlainRequest, int] | None:
    """The request that `data` begins with, and the bytes of its head; None until the head is whole.

    Raises Strange for a head that is not plain or has more than `most` bytes.
    """
    end = data.find(b"\r\n\r\n", 0, most)
    if end < 0:
        if len(data) >= most:
            raise NotPlain
        return None
    match = _HEAD.match(data)
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
    return PlainRequest(method, match[2].decode(), int(length), keep, int(minor), fields), end + 4


def head(request: PlainRequest, status: int, fields: Iterable[tuple[str, str]], *, keep: bool) -> bytes:
    """The head of the answer to `request`, with what it says about the connection."""
    if keep and not request.minor:
        connection = "Connection: keep-alive\r\n"
    elif not keep and request.minor:
        connection = "Connection: close\r\n"
    else:
        connection = ""
    lines = "".join([f"{name}: {value}\r\n" for name, value in fields])
    return f"HTTP/1.{request.minor} {_STATUS[status]}\r\n{lines}{connection}\r\n".encode("ascii")


_STATUS: Final = {each.value: f"{each.value} {each.phrase}" for each in HTTPStatus}
