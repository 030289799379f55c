"""The gateway's TLS certificate and key: loads and checks them, and notices changed files. All methods block."""

from __future__ import annotations

import os
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from tawara.model.errors import ConfigurationError

_LARGEST: Final = 1 << 20
"""Most bytes of a file of certificates or of a key."""
_MODERN: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class TlsPair:
    """A certificate chain and its private key, which fit each other."""

    chain: bytes
    """PEM, the server's own certificate first."""
    key: bytes
    """PEM, without a passphrase."""
    expires: int
    """When the first certificate of the chain expires, unix seconds."""


class TlsFiles:
    """The files of a certificate chain and its key."""

    def __init__(self, chain: Path, key: Path) -> None:
        self.chain, self.key = chain, key
        self._seen: tuple[object, ...] = ()
        """What identified the files when they were last loaded."""

    def load(self) -> TlsPair:
        """Load and check the files.

        Raises ConfigurationError: a file cannot be read, the key can be read by every user or has a passphrase, the
        certificate has expired or is not valid yet, or certificate and key do not fit each other.
        """
        self._seen = self._identity()
        chain, key = _read(self.chain), _read_key(self.key)
        now = time.time()  # noqa: TID251 - clients judge a certificate by their clocks, not by the database's
        return check_pair(self.chain, chain, self.key, key, now)

    def load_if_changed(self) -> TlsPair | None:
        """Load the files if they have changed since they were last loaded. Raises ConfigurationError."""
        return self.load() if self._identity() != self._seen else None

    def _identity(self) -> tuple[object, ...]:
        found: list[object] = []
        for path in (self.chain, self.key):
            with suppress(OSError):
                facts = path.stat()
                found += [facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size, facts.st_mode]
        return tuple(found)


class TlsServerContext:
    """The TLS settings of a server in Python; the pair may be replaced while it listens."""

    def __init__(self, pair: TlsPair) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_ciphers(_MODERN)
        self.context.set_alpn_protocols(["http/1.1"])
        self.replace(pair)

    def replace(self, pair: TlsPair) -> None:
        """Use another pair for new connections."""
        memory = os.memfd_create("tls", os.MFD_CLOEXEC)  # load_cert_chain() reads files only
        try:
            os.write(memory, pair.key + b"\n" + pair.chain)
            self.context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    if len(text) > _LARGEST:
        raise ConfigurationError(f"{path} is too large for a certificate or key", hint=_HINT)
    return text


def _read_key(path: Path) -> bytes:
    text = _read(path)
    if path.stat().st_mode & 0o007:
        raise ConfigurationError(
            f"The TLS key {path} can be read by every user of this machine", hint=f"Change that: chmod 600 {path}"
        )
    return text


_HINT: Final = "gateway.tls_certificate and gateway.tls_key name PEM files: the certificate chain and its private key."


def check_pair(chain_path: Path, chain: bytes, key_path: Path, key: bytes, now: float) -> TlsPair:
    """Return the pair if it can be used at `now` (unix seconds). Raises ConfigurationError."""
    try:
        own = x509.load_pem_x509_certificates(chain)[0]
        public = own.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, IndexError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{chain_path} is not a certificate in PEM form", hint=_HINT) from None
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise ConfigurationError(
            f"The TLS key {key_path} has a passphrase", hint="Remove it: openssl pkey -in KEY -out KEY.plain"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{key_path} is not a private key in PEM form", hint=_HINT) from None
    if private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public:
        raise ConfigurationError(
            f"The TLS key {key_path} does not belong to the certificate {chain_path}",
            hint="The first certificate of the file must be the server's own, the intermediate ones follow.",
        )
    begins, expires = own.not_valid_before_utc, own.not_valid_after_utc
    if now >= expires.timestamp():
        raise ConfigurationError(f"The TLS certificate {chain_path} expired on {expires:%Y-%m-%d}", hint="Renew it.")
    if now < begins.timestamp():
        raise ConfigurationError(
            f"The TLS certificate {chain_path} is valid from {begins:%Y-%m-%d %H:%M} UTC only",
            hint="Check the clock of this machine.",
        )
    return TlsPair(chain, key, int(expires.timestamp()))
