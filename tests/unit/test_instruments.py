"""Counters of requests."""

from __future__ import annotations

from tawara.instruments import BUCKETS, OTHER, RequestMeter, method_label


def test_requests_are_counted_by_operation_and_result() -> None:
    """Each request is counted once, with its duration in the first bucket that holds it."""
    meter = RequestMeter()
    meter.record("GET", "200", BUCKETS[0])
    meter.record("GET", "404", BUCKETS[0] * 1.1)
    meter.record("GET", "404", BUCKETS[-1] + 1)
    assert meter.counts == {("GET", "200"): 1, ("GET", "404"): 2}
    buckets = meter.durations["GET"].buckets
    assert (buckets[0], buckets[1], buckets[-1], sum(buckets)) == (1, 1, 1, 3)
    assert meter.durations["GET"].seconds > BUCKETS[-1]


def test_a_client_cannot_choose_a_label() -> None:
    """A method that is not served is counted as `other`, so that clients cannot make labels."""
    assert method_label("GET") == "GET"
    assert method_label("BREW" * 1000) == OTHER
