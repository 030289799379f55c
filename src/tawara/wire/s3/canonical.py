"""The canonical form of a request, over which Signature Version 4 is computed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import quote_from_bytes

from tawara.wire.s3.head import HeaderFields

SIGNATURE_PARAMETER: Final = "X-Amz-Signature"
_UNRESERVED: Final = "~"
"""Beside letters, digits and `_.-`, which are never encoded."""


def canonical_uri(path: bytes) -> str:
    """Encode a decoded path once: unreserved characters and `/` literally, all else as `%XX` in upper case."""
    return quote_from_bytes(path, safe="/" + _UNRESERVED)


def canonical_query(pairs: Iterable[tuple[str, str]]) -> str:
    """Encode names and values, sorted by their encoded form, without the signature itself."""
    encoded = [(_encode(name), _encode(value)) for name, value in pairs if name != SIGNATURE_PARAMETER]
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def canonical_value(lines: Sequence[bytes]) -> bytes:
    """Join the lines of one field by commas, each trimmed and with single blanks inside."""
    return b",".join(b" ".join(line.split()) for line in lines)


def canonical_request(
    method: str,
    path: bytes,
    query: Iterable[tuple[str, str]],
    fields: HeaderFields,
    signed: Sequence[str],
    payload: str,
    *,
    host: bytes | None = None,
) -> bytes:
    """Return the canonical request. `signed`: lower-case names in order; `host` is used in place of the Host field."""
    lines = [
        each.encode() + b":" + (host if each == "host" and host is not None else canonical_value(fields.lines(each)))
        for each in signed
    ]
    return b"\n".join(
        [
            method.encode(),
            canonical_uri(path).encode(),
            canonical_query(query).encode(),
            *lines,
            b"",
            ";".join(signed).encode(),
            payload.encode(),
        ]
    )


@lru_cache(1024)
def _encode(text: str) -> str:
    return quote_from_bytes(text.encode(), safe=_UNRESERVED)
