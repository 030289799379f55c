"""The installation's key: its file, the keys derived from it, and the encryption of secrets in the database.

The file has a line `tawara-key-1 BASE64` for each key. The first key is used to seal and to sign; all of them are
accepted for opening and verifying, so that a key can be replaced while the store runs. Empty lines and lines that begin
with `#` are ignored.

A sealed secret is the text `KEY-ID:BASE64`: nonce and ciphertext of AES-256-GCM, bound to the id of its owner.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

SIZE: Final = 32
"""Bytes of a key."""
NONCE: Final = 12
"""Bytes of the nonce of AES-GCM; it must be random for each secret."""
_FORMAT: Final = "tawara-key-1"


class MalformedKeyFile(ValueError):
    """The text is not that of a key file; the message says why, without the text."""


class CannotOpen(Exception):
    """A sealed secret is damaged, or was sealed with another key or for another owner."""


@dataclass(frozen=True, slots=True)
class InstallationKey:
    """One key of 32 random bytes."""

    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """A short name of the key, from which the key cannot be computed."""
        return self.derive("key id")[:6].hex()

    def derive(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for one purpose (HKDF-Expand with SHA-256, RFC 5869, section 2.3).

        HKDF's first step is left out, as RFC 5869, section 3.3 allows, where the key is uniformly random already.
        """
        return hmac.digest(self.secret, f"tawara {purpose}".encode() + b"\x01", hashlib.sha256)


def parse_key_file(text: str) -> tuple[InstallationKey, ...]:
    """Parse the text of a key file; return its keys, at least one. Raises MalformedKeyFile."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        form, _, encoded = line.strip().partition(" ")
        try:
            secret = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            secret = b""
        if form != _FORMAT or len(secret) != SIZE:
            raise MalformedKeyFile(f"line {number} is not {_FORMAT!r} with a key of {SIZE} bytes in base64")
        keys.append(InstallationKey(secret))
    if not keys:
        raise MalformedKeyFile("it has no key")
    return tuple(keys)


def render_key_file(keys: Iterable[InstallationKey]) -> str:
    """Return the text of a key file."""
    lines = [
        "# The key of this Tawara installation: it opens secrets in the database and signs requests to storage nodes.",
        "# Every process of the store needs the same file. Keep a copy; it is in no backup and on no device.",
        *(f"{_FORMAT} {base64.b64encode(each.secret).decode()}" for each in keys),
    ]
    return "\n".join(lines) + "\n"


def seal(key: InstallationKey, secret: str, *, owner: str, nonce: bytes) -> str:
    """Encrypt the secret of the access key with id `owner`. `nonce`: NONCE random bytes."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # slow to import, and not needed by every process

    ciphertext = AESGCM(key.derive("sealing")).encrypt(nonce, secret.encode(), owner.encode())
    return f"{key.id}:{base64.b64encode(nonce + ciphertext).decode()}"


def sealed_with(sealed: str) -> str:
    """Return the id of the key with which a secret was sealed."""
    return sealed.partition(":")[0]


def open_sealed(keys: Sequence[InstallationKey], sealed: str, *, owner: str) -> str:
    """Decrypt a sealed secret with the key that it names. Raises CannotOpen."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key_id, _, encoded = sealed.partition(":")
    key = next((each for each in keys if each.id == key_id), None)
    if key is None:
        raise CannotOpen("it was sealed with another key file")
    try:
        packed = base64.b64decode(encoded, validate=True)
        return AESGCM(key.derive("sealing")).decrypt(packed[:NONCE], packed[NONCE:], owner.encode()).decode()
    except (InvalidTag, ValueError):
        raise CannotOpen("it is damaged") from None
