"""Placement counts evaluated earlier, corrected for devices that have changed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Cluster, Observation, Observed
from tawara.model.placement_counts import CountedRange, JudgedView, PlacementCounts, dumped, loaded
from tawara.model.safety import judge
from tests.unit.model.clusters import cluster, clusters
from tests.unit.model.test_safety import group, groups, with_domain

SIX = with_domain(cluster({1: [1, 2], 2: [3, 4], 3: [5, 6]}))


def unreachable(seen: Cluster, *devids: int) -> Cluster:
    """The same cluster while these devices do not respond."""
    return seen.with_observations({**seen.observed, **{devid: Observation(Observed.UNREACHABLE) for devid in devids}})


@given(clusters(), groups, st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9)))
def test_corrected_figures_equal_a_new_count(seen: Cluster, files: list, before: set[int], now: set[int]) -> None:  # type: ignore[type-arg]
    """Whichever devices failed and returned, the corrected figures are those of a new count."""
    seen = with_domain(seen)
    files = [replace(each, files=1, bytes=each.bytes // each.files) for each in files]
    then, later = (unreachable(seen, *(devids & seen.devices.keys())) for devids in (before, now))
    ranges = (
        CountedRange.of(0, 5, files[:5], then, counted_at=1, most=0),
        CountedRange.of(5, 9, files[5:9], later, counted_at=1, most=0),
        CountedRange.of(9, 99, files[9:], then, counted_at=1),
    )
    counts = PlacementCounts(1, 1.0, ranges)
    changed = counts.changed(later)
    fids = range(1, 99)
    touched = [(fid, each) for fid, each in zip(fids, files, strict=False) if not changed.isdisjoint(each.devids)]
    found, truth = counts.corrected(later, touched), judge(later, files)
    assert dumped(found) == dumped(truth)


def test_judged_figures_round_trip() -> None:
    """Figures are loaded as they were dumped."""
    safety = judge(SIX, [group(1, 2), group(1), group(9), group(3, 5, classid=1)])
    assert loaded(dumped(safety)) == safety


def test_a_view_is_the_set_of_unreadable_devices() -> None:
    """Two views differ at the devices that failed, returned or died."""
    assert JudgedView.of(SIX) == JudgedView()
    assert JudgedView.of(unreachable(SIX, 3)) == JudgedView(frozenset({3}))
    assert JudgedView(frozenset({3}), frozenset({4})).differs_at(JudgedView(frozenset({4}), frozenset())) == {3, 4}
