"""Checksums: known values, piecewise computation, and CRCs of joined parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.checksums import checksum_of, combine, new_hasher
from tawara.model.cluster import Checksum, HashType

CRCS = [each for each in HashType if each.combines]


@pytest.mark.parametrize(
    ("hashtype", "digest"),
    [
        (HashType.MD5, "25f9e794323b453885f5181f1b624d0b"),
        (HashType.SHA1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        (HashType.CRC32C, "e3069283"),
        (HashType.CRC64NVME, "ae8b14860a799888"),
    ],
)
def test_check_values(hashtype: HashType, digest: str) -> None:
    """Each algorithm gives its published check value for the nine digits."""
    assert checksum_of(b"123456789", hashtype) == Checksum(hashtype, bytes.fromhex(digest))
    assert Checksum.parse(f"{hashtype.wire}:{digest}") == checksum_of(b"123456789", hashtype)


def test_stored_numbers_are_fixed() -> None:
    """The stored numbers are those of MogileFS, and for the CRCs numbers that it does not use."""
    assert {each.wire: int(each) for each in HashType} == {"MD5": 1, "SHA-1": 2, "CRC32C": 101, "CRC64NVME": 102}


@given(st.sampled_from(HashType), st.lists(st.binary(max_size=40), max_size=8))
def test_pieces_give_the_digest_of_the_whole(hashtype: HashType, pieces: list[bytes]) -> None:
    """A hasher's digest depends on the bytes, not on how they are split; views and bytearrays are accepted."""
    hasher = new_hasher(hashtype)
    for number, piece in enumerate(pieces):
        hasher.update((bytes, bytearray, memoryview)[number % 3](piece))
    assert hasher.digest() == checksum_of(b"".join(pieces), hashtype).digest
    assert len(hasher.digest()) == hashtype.digest_size


@given(st.sampled_from(CRCS), st.lists(st.binary(max_size=300), max_size=8))
def test_combined_parts_have_the_checksum_of_the_whole(hashtype: HashType, parts: list[bytes]) -> None:
    """The checksum combined from parts, empty ones among them, is that of the joined bytes."""
    known = [(checksum_of(part, hashtype), len(part)) for part in parts]
    assert combine(hashtype, known) == checksum_of(b"".join(parts), hashtype)


@pytest.mark.parametrize("hashtype", CRCS)
def test_parts_of_terabytes_combine(hashtype: HashType) -> None:
    """Lengths beyond 32 bits count: 2^45 zeros appended at once equal 2^40 zeros appended 32 times."""

    def zeros(count: int) -> Checksum:
        """The checksum of `count` zeros, by doubling."""
        made, length = checksum_of(b"\0", hashtype), 1
        while length < count:
            doubled = combine(hashtype, [(made, length), (made, length)])
            assert doubled is not None
            made, length = doubled, 2 * length
        return made

    start = (checksum_of(b"start", hashtype), 5)
    assert combine(hashtype, [start, (zeros(2**45), 2**45)]) == combine(
        hashtype, [start, *[(zeros(2**40), 2**40)] * 32]
    )


@pytest.mark.parametrize("hashtype", CRCS)
def test_unknown_parts_give_nothing(hashtype: HashType) -> None:
    """If a part's checksum is unknown or of another algorithm, or the algorithm is not a CRC, the result is None."""
    known = (checksum_of(b"a", hashtype), 1)
    assert combine(hashtype, [known, (None, 1)]) is None
    assert combine(hashtype, [known, (checksum_of(b"a", HashType.MD5), 1)]) is None
    assert combine(HashType.MD5, [(checksum_of(b"a", HashType.MD5), 1)]) is None
