"""The head of an S3 request: the target as it came, and header fields by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from tawara.model.limits import KEY_BYTES
from tawara.model.reserved_keys import NOT_YOURS, is_reserved
from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument

MOST_PARAMETERS: Final = 100
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ORIGIN: Final = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


class HeaderFields:
    """Header fields of a request; names are compared without case, lines of one name are joined by commas."""

    def __init__(self, lines: Iterable[tuple[bytes, bytes]]) -> None:
        """`lines`: names and values as they came, in their order."""
        self._values: dict[str, list[bytes]] = {}
        for name, value in lines:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value)

    def lines(self, name: str) -> Sequence[bytes]:
        """The values of all lines of a name (lower case), as they came."""
        return self._values.get(name, ())

    def get(self, name: str) -> str | None:
        """The value of a field (lower-case name) without blanks around it; None if it is absent."""
        values = self._values.get(name)
        return None if values is None else text_of(b",".join(value.strip() for value in values))

    def with_host(self, host: bytes) -> HeaderFields:
        """The same fields with another value of Host: the one that the client sent to a front end."""
        changed = HeaderFields(())
        changed._values = {**self._values, "host": [host]}
        return changed

    def names(self) -> Iterable[str]:
        """The lower-case names of all fields, each once."""
        return self._values.keys()


def text_of(value: bytes) -> str:
    """Decode a header value: UTF-8, or else ISO 8859-1 (RFC 9110, section 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


@dataclass(frozen=True, slots=True)
class S3Target:
    """A parsed request target. Without a bucket it refers to the service, without a key to the bucket."""

    bucket: str
    key: bytes
    """Valid UTF-8; empty for a bucket."""
    path: bytes
    """The decoded path as it came, with the bucket only in path style: the base of the canonical URI."""
    query: tuple[tuple[str, str], ...]
    """Decoded names and values in the order sent; a name without `=` has an empty value."""

    def parameter(self, name: str) -> str | None:
        """The value of a query parameter; the first of several; None if it is absent."""
        for each, value in self.query:
            if each == name:
                return value
        return None

    @property
    def resource(self) -> str:
        """The path as error answers name it."""
        return f"/{self.bucket}/{self.key.decode()}" if self.bucket else "/"


@dataclass(frozen=True, slots=True)
class RequestHead:
    """Method, target and header fields of a request."""

    method: str
    target: S3Target
    fields: HeaderFields


def parse_target(raw: bytes, host: str | None = None, base_hosts: Sequence[str] = ()) -> S3Target:
    """Parse the target of a request line, in path style or in virtual-host style.

    `host` is the value of the Host field. Where it is `BUCKET.base` for a name in `base_hosts` (lower case, without
    port), the whole path is the key. Raises S3Fault: InvalidURI if the target is no path of percent-encoded UTF-8, has
    a NUL or leads above the root; KeyTooLongError; InvalidArgument for a key that is reserved.
    """
    undecoded, _, query = _ORIGIN.sub(b"", raw, count=1).partition(b"?")
    if not undecoded.startswith(b"/") or _BROKEN_ESCAPE.search(undecoded) or b"#" in undecoded:
        raise S3Fault(FaultCode.INVALID_URI)
    path = unquote_to_bytes(undecoded)
    try:
        path.decode()
    except UnicodeDecodeError:
        raise S3Fault(FaultCode.INVALID_URI, "The URI is not UTF-8") from None
    if b"\0" in path or _climbs(path):
        raise S3Fault(FaultCode.INVALID_URI)
    virtual = bucket_of_host(host, base_hosts)
    if virtual is not None:
        bucket, key = virtual, path[1:]
    else:
        name, _, key = path[1:].partition(b"/")
        bucket = name.decode()
        if not bucket and key:
            raise S3Fault(FaultCode.INVALID_BUCKET_NAME)
    check_key(key)
    return S3Target(bucket, key, path, parse_query(query))


def check_key(key: bytes) -> None:
    """Raise S3Fault if the key is too long (KeyTooLongError) or reserved (InvalidArgument)."""
    if len(key) > KEY_BYTES:
        raise S3Fault(FaultCode.KEY_TOO_LONG, details=[("Size", len(key)), ("MaxSizeAllowed", KEY_BYTES)])
    if is_reserved(key):
        raise invalid_argument("key", "", NOT_YOURS)


def bucket_of_host(host: str | None, base_hosts: Sequence[str]) -> str | None:
    """The bucket that a Host value names; None if it names none: path style."""
    if host is None:
        return None
    name = host.lower()
    if ":" in name and not name.endswith("]"):
        name = name.rpartition(":")[0]
    for base in base_hosts:
        if name.endswith("." + base) and len(name) > len(base) + 1:
            return name[: -len(base) - 1]
    return None


def parse_query(raw: bytes) -> tuple[tuple[str, str], ...]:
    """Decode a query; `+` is a blank, as for AWS. Raises S3Fault (InvalidURI) if malformed or too long."""
    segments = [each for each in raw.split(b"&", MOST_PARAMETERS) if each]
    if len(segments) > MOST_PARAMETERS or _BROKEN_ESCAPE.search(raw):
        raise S3Fault(FaultCode.INVALID_URI, "The query cannot be parsed")
    pairs = []
    for segment in segments:
        name, _, value = segment.replace(b"+", b" ").partition(b"=")
        try:
            pairs.append((_decoded(name), _decoded(value)))
        except UnicodeDecodeError:
            raise S3Fault(FaultCode.INVALID_URI, "The query is not UTF-8") from None
    return tuple(pairs)


def _decoded(text: bytes) -> str:
    """Decode percent-encoded UTF-8. Raises UnicodeDecodeError."""
    return (unquote_to_bytes(text) if b"%" in text else text).decode()


def _climbs(path: bytes) -> bool:
    """Whether `..` leads above the root at some point; refused everywhere, because proxies refuse it."""
    if b".." not in path:
        return False
    depth = 0
    for segment in path.split(b"/"):
        if segment == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif segment not in (b"", b"."):
            depth += 1
    return False
