"""The request to assemble a file, and its reply."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.assembling import MOST_RANGES, ByteRange
from tawara.model.cluster import Checksum, HashType
from tawara.model.fid import HIGHEST
from tawara.wire import assemble

NUMBERS = st.integers(0, HIGHEST)
RANGES = st.builds(ByteRange, st.integers(1, HIGHEST), NUMBERS, NUMBERS)
CHECKSUMS = st.sampled_from(HashType).flatmap(
    lambda each: st.binary(min_size=each.digest_size, max_size=each.digest_size).map(lambda it: Checksum(each, it))
)


def test_a_request_in_bytes() -> None:
    """A request names ranges of fids, and the checksums to compute."""
    body = assemble.encode_request([ByteRange(7, 0, 8), ByteRange(9, 4, 12)], [HashType.CRC64NVME])
    assert body == (
        b'{"ranges":[{"fid":7,"start":0,"length":8},{"fid":9,"start":4,"length":12}],"checksums":["CRC64NVME"]}'
    )


@given(st.lists(RANGES, max_size=5), st.lists(st.sampled_from(HashType), max_size=4))
def test_a_request_is_understood(ranges: list[ByteRange], hashtypes: list[HashType]) -> None:
    """What is encoded is parsed to the same values."""
    parsed = assemble.parse_request(assemble.encode_request(ranges, hashtypes))
    assert parsed == assemble.AssembleRequest(tuple(ranges), tuple(hashtypes))


@given(NUMBERS, st.lists(CHECKSUMS, max_size=3))
def test_a_reply_is_understood(length: int, checksums: list[Checksum]) -> None:
    """What is encoded is parsed to the same values."""
    reply = assemble.Assembled(length, tuple(checksums))
    assert assemble.parse_reply(assemble.encode_reply(reply)) == reply


def test_the_longest_request_fits() -> None:
    """The bound on a request's bytes allows the most ranges with the greatest numbers."""
    body = assemble.encode_request([ByteRange(HIGHEST, HIGHEST, HIGHEST)] * MOST_RANGES, list(HashType))
    assert len(body) <= assemble.LARGEST
    assert len(assemble.parse_request(body).ranges) == MOST_RANGES


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"ranges":[{"fid":0,"start":0,"length":1}]}',
        b'{"ranges":[{"fid":1,"start":-1,"length":1}]}',
        b'{"ranges":[{"fid":1,"start":0,"length":-1}]}',
        b'{"ranges":[{"fid":1,"start":0,"length":1.5}]}',
        b'{"ranges":[{"fid":"1","start":0,"length":1}]}',
        b'{"ranges":[{"fid":9223372036854775808,"start":0,"length":1}]}',
        b'{"ranges":[{"fid":1,"start":0}]}',
        b'{"ranges":[{"fid":1,"start":0,"length":1,"from":"/dev1/x"}]}',
        b'{"ranges":[],"checksums":["CRC32"]}',
        b'{"ranges":[],"checksums":["MD5","MD5","MD5","MD5","MD5"]}',
        b'{"ranges":[],"replace":true}',
        b'{"ranges":[' + b",".join([b'{"fid":1,"start":0,"length":1}'] * (MOST_RANGES + 1)) + b"]}",
        b'{"ranges":[],"checksums":["\xff"]}',
    ],
)
def test_bad_requests_are_refused(body: bytes) -> None:
    """Wrong types, numbers out of range, unknown names and too many ranges are refused with a reason."""
    with pytest.raises(ValueError, match=r"."):
        assemble.parse_request(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    """No input raises anything but ValueError."""
    assemble.parse_reply(body)
    with suppress(ValueError):
        assemble.parse_request(body)
