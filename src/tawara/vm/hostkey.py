"""Formats of ssh host keys: reads OpenSSH's private keys, writes dropbear's and known_hosts lines."""

from __future__ import annotations

import base64
import struct

from tawara.vm.errors import ImageError

_MAGIC = b"openssh-key-v1\0"


def dropbear_host_key(openssh: str) -> bytes:
    """Return dropbear's form of an unencrypted ed25519 key: the type, then private and public part in one string."""
    return _string(b"ssh-ed25519") + _string(private_bytes(openssh))


def private_bytes(openssh: str) -> bytes:
    """Return the 64 bytes (seed, public key) inside an OpenSSH ed25519 private key file."""
    body = "".join(line for line in openssh.splitlines() if line and not line.startswith("-----"))
    blob = base64.b64decode(body)
    if not blob.startswith(_MAGIC):
        raise ImageError("the host key is not an OpenSSH private key")
    cipher, rest = _take(blob[len(_MAGIC) :])
    _kdf, rest = _take(rest)
    _options, rest = _take(rest)
    if cipher != b"none":
        raise ImageError("the host key has a pass phrase; a host key must not")
    _public, rest = _take(rest[4:])
    section, _ = _take(rest)
    kind, rest = _take(section[8:])
    if kind != b"ssh-ed25519":
        raise ImageError(f"the host key is of type {kind.decode()}; only ed25519 is used")
    _public, rest = _take(rest)
    private, _ = _take(rest)
    return private


def known_hosts_line(names: list[str], public: str) -> str:
    """Return the line that makes strict host-key checking succeed for every name and address of a guest."""
    return f"{','.join(names)} {public}\n"


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", data[:4])
    return data[4 : 4 + length], data[4 + length :]
