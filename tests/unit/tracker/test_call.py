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
def test_numbers_are_parsed_as_in_perl(raw: bytes, number: int | None) -> None:
    """The leading digits count; without digits it is no number."""
    assert TrackerRequest({"n": raw}).number("n") == number


@given(st.binary(max_size=40))
def test_any_bytes_are_some_bounded_number(raw: bytes) -> None:
    """Any argument is parsed, and none becomes a number beyond a column's range."""
    assert 0 <= TrackerRequest({"n": raw}).bounded("n") <= LARGEST


@pytest.mark.parametrize(
    ("raw", "number"),
    [(b"1", 1), (b"32767", 32767), (b"32768", 0), (b"9" * 20, 0), (b"0", 0), (b"-1", 0), (b"", 0), (b"x", 0)],
)
def test_a_number_out_of_range_names_nothing(raw: bytes, number: int) -> None:
    """It is not taken for the highest number, which may be that of a device."""
    assert TrackerRequest({"n": raw}).identifier("n", 32767) == number


@pytest.mark.parametrize(("raw", "on"), [(b"1", True), (b"yes", True), (b"0", False), (b"", False), (b"00", True)])
def test_flags(raw: bytes, on: bool) -> None:
    """Empty and 0 are false, anything else is true."""
    assert TrackerRequest({"f": raw}).flag("f") is on
    assert not TrackerRequest({}).flag("f")


def test_names_and_keys() -> None:
    """A missing required argument raises its own error; a name or key that is too long is refused."""
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
