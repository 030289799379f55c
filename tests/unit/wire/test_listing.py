"""The pages of a storage node's list of files on a device."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.listing import DIRECTORIES, decode, directory_of, encode

NO_PAGE = r"the page has no end|does not come to an end|makes no sense|does not belong there"
FIDS = st.dictionaries(st.integers(0, 10**12), st.integers(0, 2**63 - 1), max_size=30)


@given(FIDS)
def test_pages_round_trip(found: dict[int, int]) -> None:
    """What is encoded is decoded to the same fids."""
    assert decode(encode(sorted(found.items()), None), 0) == (found, None)
    last = max(map(directory_of, found), default=0)
    if last + 1 < DIRECTORIES:
        assert decode(encode(found.items(), last + 1), 0) == (found, last + 1)


@given(FIDS, st.data())
def test_an_incomplete_page_is_refused(found: dict[int, int], data: st.DataObject) -> None:
    """A page without its end is refused, wherever it was cut."""
    page = encode(found.items(), None)
    with pytest.raises(ValueError, match=NO_PAGE):
        decode(page[: data.draw(st.integers(0, len(page) - 1))], 0)


@pytest.mark.parametrize(
    ("page", "first"),
    [
        (b"next 7\n", 7),
        (b"1 1\nnext 5\n", 1),
        (b"5000 1\nnext 5\n", 1),
        (b"1 -1\nend\n", 0),
        (b"1 1 1\nend\n", 0),
        (b"1 9223372036854775808\nend\n", 0),
        (b"<html></html>", 0),
        (b"", 0),
    ],
)
def test_invalid_pages_are_refused(page: bytes, first: int) -> None:
    """A list that does not advance, foreign fids, and invalid lines are refused."""
    with pytest.raises(ValueError, match=NO_PAGE):
        decode(page, first)
