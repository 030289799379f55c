"""Which gateway caches a file, and which files are hot."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cache_owners import cache_owner
from tawara.model.hot_files import HotFiles

GATEWAYS = st.lists(st.text("0123456789.:", min_size=1, max_size=12), min_size=1, max_size=8, unique=True)


@given(GATEWAYS, st.integers(1, 1 << 40), st.randoms())
def test_every_gateway_finds_the_same_owner(gateways: list[str], fid: int, rng: object) -> None:
    """The owner does not depend on the order; when another gateway is gone it stays the same."""
    owner = cache_owner(gateways, fid)
    assert cache_owner(gateways[::-1], fid) == owner
    for gone in gateways:
        left = [each for each in gateways if each != gone]
        if left:
            assert (cache_owner(left, fid) == owner) == (gone != owner)


def test_files_are_spread_evenly() -> None:
    """Each of five gateways owns about a fifth of the files; those of one that is gone are spread over all others."""
    gateways = [f"10.0.0.{number}:7083" for number in range(5)]
    owned = Counter(cache_owner(gateways, fid) for fid in range(5000))
    assert all(850 < owned[each] < 1150 for each in gateways)
    moved = Counter(cache_owner(gateways[1:], fid) for fid in range(5000) if cache_owner(gateways, fid) == gateways[0])
    assert len(moved) == 4
    assert min(moved.values()) > 150


def test_a_file_becomes_hot_and_cools() -> None:
    """A file is hot while it is read as often as said, and no longer a while after; others are counted apart."""
    hot = HotFiles(10.0)
    assert not any(hot.count(1, number / 5) for number in range(500))  # 5 a second
    assert sum([hot.count(1, 100 + number / 20) for number in range(500)]) > 300  # 20 a second
    assert hot.count(1, 125)
    assert not hot.count(2, 125)
    assert not hot.count(1, 160)


def test_memory_is_bounded() -> None:
    """Only the latest files are counted: a file that is read often stays among them."""
    hot = HotFiles(1.0)
    found = []
    for number in range(20_000):
        hot.count(number + 10, number / 1000)
        if number % 100 == 0:
            found.append(hot.count(1, number / 1000))
    assert not any(found[:4])
    assert all(found[10:])
    assert len(hot._counted) <= 512
