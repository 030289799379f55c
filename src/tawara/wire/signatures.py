"""Signatures of requests to storage nodes: a right to one path until a time, as HMAC-SHA256.

A signature is the text `<right><expiry>.<MAC in base64url>`. The processes of a store send it in the header field
Tawara-Signature. Clients, which know nothing of it, get it from the tracker in the query of a URL:

    http://10.0.0.11:7500/dev1/0/000/000/0000000301.fid?tawara=w1796040000.2m3Zx…

The right covers the method, not the body: within its time a URL to store a file stores any content, but it replaces
none on nodes that refuse other content. Rights to replace and to assemble are for the store's own processes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Final

from tawara.wire.installation_key import InstallationKey

FIELD: Final = "Tawara-Signature"
"""Header field with a signature."""
PARAMETER: Final = "tawara"
"""Parameter of a URL's query with a signature."""
SKEW: Final = 60
"""Seconds by which the clocks of signer and storage node may differ."""
LONGEST: Final = 7 * 86_400
"""Most seconds for which a signature is valid."""
_ESCAPED: Final = f"%3F{PARAMETER}%3D"
_SIGNATURE: Final = re.compile(r"([a-z])(\d{1,12})\.([\w-]{43})", re.ASCII)


class NodeRight(StrEnum):
    """What a signature allows."""

    READ = "r"
    """GET and HEAD."""
    WRITE = "w"
    """PUT of new content, MKCOL."""
    REPLACE = "o"
    """PUT that replaces other content (plain_request.REPLACE)."""
    DELETE = "d"
    ASSEMBLE = "a"
    """POST: storing a file made of others on the device."""


_RIGHTS: Final = {
    "GET": NodeRight.READ,
    "HEAD": NodeRight.READ,
    "PUT": NodeRight.WRITE,
    "MKCOL": NodeRight.WRITE,
    "DELETE": NodeRight.DELETE,
    "POST": NodeRight.ASSEMBLE,
}


def right_for(method: str, *, replace: bool) -> NodeRight | None:
    """Return the right that a request needs; None for a method that no storage node has."""
    right = _RIGHTS.get(method)
    return NodeRight.REPLACE if replace and right is NodeRight.WRITE else right


@lru_cache(16)
def signing_key(key: InstallationKey) -> bytes:
    """Return the key for signatures, derived from the installation's key."""
    return key.derive("storage node signatures")


def sign(key: bytes, right: NodeRight, path: str, expires: int) -> str:
    """Return the signature of a right to `path` (undecoded, without query) until `expires` (unix seconds)."""
    mac = hmac.digest(key, f"{right}\n{expires}\n{path.rstrip('/')}".encode(), hashlib.sha256)
    return f"{right}{expires}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def find_problem(keys: Sequence[bytes], signature: str | None, right: NodeRight, path: str, now: float) -> str | None:
    """Return why a signature does not allow a request, as a sentence; None if it does. `keys`: those accepted."""
    if not signature:
        return "The request is not signed by a tracker or gateway of this store"
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        return "The signature is malformed"
    expires = int(match[2])
    given, path = signature.encode(), path.rstrip("/")
    matches = [hmac.compare_digest(sign(key, right, path, expires).encode(), given) for key in keys]
    if not any(matches):
        if match[1] != right:
            return "The signature is for another kind of request"
        return "The signature is wrong: it is for another path, or was made with another key file"
    if now > expires + SKEW:
        return f"The signature expired {int(now) - expires} seconds ago: get a new URL, or compare the machines' clocks"
    if expires > now + LONGEST + SKEW:
        return "The signature is valid for longer than allowed: compare the machines' clocks"
    return None


def signed_url(url: str, signature: str) -> str:
    """Return a URL without query with a signature in its query."""
    return f"{url}?{PARAMETER}={signature}"


def unsigned_url(url: str) -> str:
    """Return a URL without the signature that `signed_url` added."""
    address, query = split_target(url)
    return address if query.startswith(f"{PARAMETER}=") else url


def split_target(target: str) -> tuple[str, str]:
    """Split a URL or request target into address and query.

    Some clients of MogileFS never unescape a tracker's reply, so they send `%3F` and `%3D` for the signature's `?` and
    `=`. That is unambiguous, since no path on a storage node has an escape.
    """
    address, mark, query = target.partition("?")
    if not mark and (position := address.find(_ESCAPED)) >= 0:
        return address[:position], f"{PARAMETER}={address[position + len(_ESCAPED) :]}"
    return address, query


def signature_in(query: str) -> str | None:
    """Return the signature in the query of a URL (without `?`); None without one."""
    return _first(part.removeprefix(f"{PARAMETER}=") for part in query.split("&") if part.startswith(f"{PARAMETER}="))


def _first(texts: Iterable[str]) -> str | None:
    return next(iter(texts), None)
