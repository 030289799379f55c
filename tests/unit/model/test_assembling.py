"""Files made of ranges of other files."""

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.assembling import ByteRange, FileRange, devices_of_all, known_checksum, total_length
from tawara.model.checksums import checksum_of
from tawara.model.cluster import HashType
from tawara.model.files import StoredFile


def stored(body: bytes, hashtype: HashType | None, devids: tuple[int, ...] = (1,), fid: int = 1) -> StoredFile:
    checksum = checksum_of(body, hashtype) if hashtype else None
    return StoredFile(fid, 1, b"k", len(body), 0, len(devids), devids, checksum=checksum)


@given(st.lists(st.binary(max_size=50), max_size=6), st.sampled_from(HashType))
def test_a_checksum_that_follows_is_right(parts: list[bytes], hashtype: HashType) -> None:
    """Whole files with a CRC give the CRC of the joined file; one whole file keeps its checksum of any type."""
    ranges = [FileRange.whole(stored(part, hashtype)) for part in parts]
    known = known_checksum(hashtype, ranges)
    assert known == (checksum_of(b"".join(parts), hashtype) if hashtype.combines or len(parts) == 1 else None)


def test_no_checksum_is_guessed() -> None:
    """A part of a file, a file without a checksum, or with one of another type, gives none."""
    whole = stored(b"abc", HashType.CRC32C)
    assert known_checksum(HashType.CRC32C, [FileRange(whole, 0, 2)]) is None
    assert known_checksum(HashType.CRC32C, [FileRange(whole, 1, 2)]) is None
    assert known_checksum(HashType.CRC32C, [FileRange.whole(stored(b"abc", None))]) is None
    assert known_checksum(HashType.CRC64NVME, [FileRange.whole(whole)] * 2) is None
    assert known_checksum(HashType.MD5, [FileRange.whole(whole)]) is None


def test_devices_and_length() -> None:
    """Only devices with all sources can assemble; the length is the sum of the ranges'."""
    ranges = [
        FileRange(stored(b"abc", None, (1, 2, 3), fid=1), 0, 2),
        FileRange(stored(b"defg", None, (2, 3, 4), fid=2), 1, 3),
    ]
    assert devices_of_all(ranges) == {2, 3}
    assert devices_of_all([]) == frozenset()
    assert total_length(ranges) == 5
    assert ranges[1].byte_range == ByteRange(2, 1, 3)
