"""Checksums of objects: each algorithm of the protocol, computed in pieces."""

from __future__ import annotations

import pytest

from tawara.model.object_checksums import ChecksumAlgorithm, format_value, new_digest, parse_value

CHECK = b"123456789"
"""The input of the check values of CRC catalogues."""
KNOWN = {
    ChecksumAlgorithm.CRC32: "cbf43926",
    ChecksumAlgorithm.CRC32C: "e3069283",
    ChecksumAlgorithm.CRC64NVME: "ae8b14860a799888",
    ChecksumAlgorithm.SHA1: "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    ChecksumAlgorithm.SHA256: "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    ChecksumAlgorithm.MD5: "25f9e794323b453885f5181f1b624d0b",
    ChecksumAlgorithm.XXHASH64: "8cb841db40e6ae83",
}


@pytest.mark.parametrize("algorithm", ChecksumAlgorithm)
def test_every_algorithm_is_computed(algorithm: ChecksumAlgorithm) -> None:
    """C8: all ten algorithms are computed, in pieces as in one, and known inputs have their known values."""
    whole, pieces = new_digest(algorithm), new_digest(algorithm)
    whole.update(CHECK)
    for at in range(len(CHECK)):
        pieces.update(memoryview(CHECK)[at : at + 1])
    value = whole.digest()
    assert value == pieces.digest()
    assert len(value) == algorithm.digest_size
    assert value.hex() == KNOWN.get(algorithm, value.hex())
    assert parse_value(algorithm, format_value(value)) == value
