"""The stored form of header fields, metadata and checksums."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.object_checksums import ChecksumAlgorithm
from tawara.wire.s3.attribute_record import EMPTY, decode_attributes, encode_attributes
from tawara.wire.s3.object_fields import ObjectFields
from tawara.wire.s3.results import AnsweredChecksum

texts = st.dictionaries(st.text(max_size=5), st.text(st.characters(codec="utf-8"), max_size=10), max_size=3)
checksums = st.none() | st.builds(
    AnsweredChecksum, st.sampled_from(ChecksumAlgorithm), st.binary(min_size=1), st.none() | st.integers(1, 9)
)


@given(fields=texts, metadata=texts, checksum=checksums)
def test_what_is_stored_comes_back(
    fields: dict[str, str], metadata: dict[str, str], checksum: AnsweredChecksum | None
) -> None:
    """O5, C1: fields, metadata and checksum come back as they were stored; nothing is stored as nothing."""
    given = ObjectFields("a/b", fields, metadata)
    data = encode_attributes(given, checksum)
    found = decode_attributes(data)
    assert found.object_fields("a/b") == given
    assert found.checksum() == checksum
    assert (data is None) == (not fields and not metadata and checksum is None)


@given(data=st.binary(max_size=60))
def test_bytes_of_another_program(data: bytes) -> None:
    """Any stored bytes are read, as nothing if they are of no known form."""
    decode_attributes(data).checksum()
    assert decode_attributes(b"\xff") == EMPTY
    assert decode_attributes(b'{"algorithm": "NEW", "sum": "AAAA"}').checksum() is None
