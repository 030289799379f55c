"""Random heads and bodies, a few of them: see fuzz.py, which runs more."""

from __future__ import annotations

import pytest

from tawara.wire.s3.faults import FaultCode, S3Fault
from tests.unit.wire.s3 import fuzz


@pytest.mark.parametrize("seed", [1, 2])
def test_random_requests(seed: int) -> None:
    """T17: any bytes as target, header fields, query, XML, chunk framing or form are read or refused with 4xx."""
    fuzz.run(heads=100, bodies=60, seed=seed)


def test_a_fault_of_the_server_is_noticed() -> None:
    """The check of a fault can fail."""
    with pytest.raises(AssertionError):
        fuzz.judge(S3Fault(FaultCode.INTERNAL_ERROR))
