"""The restriction of a check to some files, as stored in the settings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.focus import Focus

FOCUSES = st.builds(
    Focus,
    dmid=st.none() | st.integers(0, 2**31),
    classid=st.none() | st.integers(0, 255),
    prefix=st.binary(max_size=20),
    devids=st.frozensets(st.integers(1, 9999), max_size=4),
    every_byte=st.booleans(),
)


@given(FOCUSES)
def test_a_focus_round_trips(focus: Focus) -> None:
    """The text parses to an equal focus, for any bytes in the prefix; without restriction it is empty."""
    assert Focus.parse(str(focus)) == focus
    assert str(Focus()) == ""


def test_which_options_restrict() -> None:
    """A more thorough check leaves no file out."""
    assert not Focus(every_byte=True).confines
    assert Focus(dmid=1).confines
    assert Focus(devids=frozenset({3})).confines
