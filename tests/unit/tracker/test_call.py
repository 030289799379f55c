"""How a verb reads its arguments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model import errors
from tawara.tracker.context import LARGEST, TrackerRequest


@pytest.mark.parametrize(
    ("raw", "number"),
    [(b"7", 7), (b" 7 ", 7), (b"-7", -7), (b"+7", 7), (b"7up", 7), (b"", None), (b"up", None), (b"1_0", 1)],
)
def test_numbers_are_read_as_perl_reads_them(raw: bytes, number: int | None) -> None:
    """The leading digits count; what has none is no number."""
    assert TrackerRequest({"n": raw}).number("n") == number


@given(st.binary(max_size=40))
def test_any_bytes_are_some_bounded_number(raw: bytes) -> None:
    """No argument is too strange to be read, and none becomes a number that no column can hold."""
    assert 0 <= TrackerRequest({"n": raw}).bounded("n") <= LARGEST


@pytest.mark.parametrize(("raw", "on"), [(b"1", True), (b"yes", True), (b"0", False), (b"", False), (b"00", True)])
def test_flags(raw: bytes, on: bool) -> None:
    """Empty and 0 are off, anything else is on."""
    assert TrackerRequest({"f": raw}).flag("f") is on
    assert not TrackerRequest({}).flag("f")


def test_names_and_keys() -> None:
    """What must be given raises its own error; what is to be stored must fit."""
    with pytest.raises(errors.NoKey):
        TrackerRequest({"key": b""}).key()
    assert TrackerRequest({"key": b"0"}).key() == b"0"
    with pytest.raises(errors.InvalidKey):
        TrackerRequest({"key": b"k" * 1025}).new_key()
    assert TrackerRequest({"key": b"k" * 1024}).new_key() == b"k" * 1024
    with pytest.raises(errors.NoHost):
        TrackerRequest({}).name("host", errors.NoHost)
    with pytest.raises(errors.InvalidName):
        TrackerRequest({"host": b"\xff"}).name("host", errors.NoHost)
    with pytest.raises(errors.InvalidName):
        TrackerRequest({"host": "é".encode() * 3}).new_name("host", errors.NoHost, 5)
