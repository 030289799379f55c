"""Encodes what is stored with an object beside its bytes: header fields, user metadata, the client's checksum, tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tawara.model.object_checksums import ChecksumAlgorithm
from tawara.wire.s3.object_fields import ObjectFields
from tawara.wire.s3.results import AnsweredChecksum


class AttributeRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored form: a JSON object without the fields that are empty."""

    fields: dict[str, str] = {}
    """Header fields by lower-case name."""
    meta: dict[str, str] = {}
    """User metadata by lower-case name without the prefix."""
    algorithm: str = ""
    """Name of the algorithm of `sum`."""
    sum: bytes = b""
    """The object's checksum, in base64."""
    parts: int = 0
    """Number of parts of a composite checksum; 0 for one over the whole object."""
    tags: dict[str, str] = {}

    def object_fields(self, content_type: str | None) -> ObjectFields:
        """Return the fields with which the object is answered."""
        return ObjectFields(content_type, self.fields, self.meta)

    def checksum(self) -> AnsweredChecksum | None:
        """Return the object's checksum; None if none is stored, or one of an algorithm that is unknown here."""
        try:
            algorithm = ChecksumAlgorithm(self.algorithm)
        except ValueError:
            return None
        return AnsweredChecksum(algorithm, self.sum, self.parts or None)


EMPTY: Final = AttributeRecord()


def encode_attributes(
    stored: ObjectFields, checksum: AnsweredChecksum | None, tags: Sequence[tuple[str, str]] = ()
) -> bytes | None:
    """Return the stored form; None if there is nothing to store. The media type is not part of it."""
    record = AttributeRecord(dict(stored.fields), dict(stored.metadata), tags=dict(tags))
    if checksum is not None:
        record = msgspec.structs.replace(
            record, algorithm=checksum.algorithm.value, sum=checksum.value, parts=checksum.parts or 0
        )
    return _encode(record)


def with_tags(data: bytes | None, tags: Sequence[tuple[str, str]]) -> bytes | None:
    """Return the stored form with other tags."""
    return _encode(msgspec.structs.replace(decode_attributes(data), tags=dict(tags)))


def _encode(record: AttributeRecord) -> bytes | None:
    return None if record == EMPTY else msgspec.json.encode(record)


def decode_attributes(data: bytes | None) -> AttributeRecord:
    """Decode the stored form. Bytes that are none, of another program, are as if nothing was stored."""
    if data is None:
        return EMPTY
    try:
        return msgspec.json.decode(data, type=AttributeRecord)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return EMPTY
