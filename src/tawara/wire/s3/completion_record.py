"""Encodes the answer to the completion of an upload in parts, which is kept for clients that complete it again."""

from __future__ import annotations

import msgspec

from tawara.model.object_checksums import ChecksumAlgorithm
from tawara.wire.s3.results import AnsweredChecksum


class CompletionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored form: a JSON object."""

    etag: str
    """Without quotes."""
    algorithm: str = ""
    """Name of the algorithm of `sum`; empty without a checksum."""
    sum: bytes = b""
    """The object's checksum, in base64."""
    parts: int = 0
    """Number of parts of a composite checksum; 0 for one over the whole object."""

    def checksum(self) -> AnsweredChecksum | None:
        """Return the object's checksum; None without one."""
        if not self.algorithm:
            return None
        return AnsweredChecksum(ChecksumAlgorithm(self.algorithm), self.sum, self.parts or None)


def encode_completion(etag: str, checksum: AnsweredChecksum | None) -> str:
    """Return the stored form."""
    record = CompletionRecord(etag)
    if checksum is not None:
        record = CompletionRecord(etag, checksum.algorithm.value, checksum.value, checksum.parts or 0)
    return msgspec.json.encode(record).decode()


def decode_completion(text: str) -> CompletionRecord:
    """Decode the stored form."""
    return msgspec.json.decode(text, type=CompletionRecord)
