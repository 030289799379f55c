"""What a check is confined to, as it stands in the settings."""

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
def test_a_focus_is_read_as_it_was_written(focus: Focus) -> None:
    """The text stands for the focus, whatever bytes the prefix has; every file is the empty text."""
    assert Focus.parse(str(focus)) == focus
    assert str(Focus()) == ""


def test_what_confines() -> None:
    """Looking more closely leaves no file out."""
    assert not Focus(every_byte=True).confines
    assert Focus(dmid=1).confines
    assert Focus(devids=frozenset({3})).confines
