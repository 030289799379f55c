"""Continuation tokens of listings: the last entry of a page and whether it is a common prefix, opaque to clients."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from tawara.model.limits import KEY_BYTES
from tawara.wire.s3.faults import invalid_argument

_KEY: Final = b"k"
_PREFIX: Final = b"p"


def encode_token(last: bytes, *, is_prefix: bool) -> str:
    """Return the token with which a listing continues after `last`."""
    return base64.urlsafe_b64encode((_PREFIX if is_prefix else _KEY) + last).decode()


def decode_token(token: str) -> tuple[bytes, bool]:
    """Return the last entry of the page before, and whether it is a common prefix. Raises S3Fault (InvalidArgument)."""
    if len(token) <= 2 * KEY_BYTES:
        try:
            data = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if data[:1] in (_KEY, _PREFIX):
            return data[1:], data[:1] == _PREFIX
    raise invalid_argument("continuation-token", token, "The continuation token provided is incorrect")
