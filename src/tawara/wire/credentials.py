"""Parses the Authorization field of a request: a bearer token (RFC 6750, section 2.1), or Basic (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request offers to authenticate itself."""

    token: bytes | None = field(default=None, repr=False)
    """The whole bearer token; None for Basic."""
    id: str | None = None
    """Id of an access key; None if the token has no colon."""
    secret: bytes = field(default=b"", repr=False)
    """The secret of that key."""


def parse_authorization(fields: Sequence[str]) -> Credentials | None:
    """Parse the values of all Authorization fields of a request; None without any that can be used.

    A request with several is ambiguous: proxies and servers would choose different ones.
    """
    if len(fields) != 1:
        return None
    scheme, _, rest = fields[0].strip().partition(" ")
    offered = rest.strip().encode("utf-8", "surrogateescape")
    match scheme.lower():
        case "bearer":
            key_id, colon, secret = offered.partition(b":")
            return Credentials(offered, key_id.decode("latin-1") if colon else None, secret)
        case "basic":
            try:
                decoded = base64.b64decode(offered, validate=True)
            except binascii.Error:
                return None
            key_id, colon, secret = decoded.partition(b":")
            return Credentials(None, key_id.decode("latin-1"), secret) if colon else None
    return None
