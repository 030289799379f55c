"""The monitor's conclusions from its observations (docs/mogilefs.md 8.5), and the pauses after failures
(docs/mogilefs.md 10.6, 11.1)."""

from __future__ import annotations

from random import Random

import pytest

from tawara.model import backoff
from tawara.model.cluster import Device, DeviceState, Observation, Observed
from tawara.model.observation import (
    FREQUENT_CHECK_SECONDS,
    is_due,
    judge,
    needs_frequent_checks,
    wants_write_test,
    worth_recording,
)
from tests.unit.model.clusters import cluster


@pytest.mark.parametrize(
    ("answered", "testable", "wrote", "before", "state"),
    [
        (False, True, None, Observed.WRITEABLE, Observed.UNREACHABLE),
        (True, False, None, Observed.WRITEABLE, Observed.READABLE),
        (True, True, True, Observed.UNREACHABLE, Observed.WRITEABLE),
        (True, True, False, Observed.WRITEABLE, Observed.READABLE),
        (True, True, None, Observed.WRITEABLE, Observed.WRITEABLE),
        (True, True, None, None, Observed.READABLE),
    ],
)
def test_states(answered: bool, testable: bool, wrote: bool | None, before: Observed | None, state: Observed) -> None:
    """A device becomes writeable only by a write test, and stays so until the next one while it responds."""
    assert judge(answered=answered, testable=testable, wrote=wrote, before=before) is state


def test_healthy_devices_are_checked_in_every_second_round() -> None:
    """A healthy device is checked in every second round, its host in each; a new or silent device in each."""
    well, silent = Observation(Observed.WRITEABLE), Observation(Observed.UNREACHABLE)
    due = {number: {place for place in range(5) if is_due(well, place, number)} for number in range(4)}
    assert due[0] == due[2] == {0, 2, 4}
    assert due[1] == due[3] == {1, 3}
    assert all(is_due(seen, place, number) for seen in (None, silent) for place in (0, 1) for number in (0, 1))


def test_all_are_checked_after_a_failure() -> None:
    """For a minute after a device failed all devices are checked more often, but not as long as it is absent."""
    well = cluster({1: [11], 2: [21]})
    missed = well.with_observations({11: Observation(Observed.WRITEABLE)})
    assert not needs_frequent_checks(well, 0.0)
    assert needs_frequent_checks(missed, FREQUENT_CHECK_SECONDS - 1)
    assert not needs_frequent_checks(missed, FREQUENT_CHECK_SECONDS)


def test_write_tests() -> None:
    """A device is write-tested every 30 seconds, and at once if it is new or was unreachable."""
    assert wants_write_test(None, None)
    assert wants_write_test(Observed.UNREACHABLE, 1)
    assert not wants_write_test(Observed.WRITEABLE, 29)
    assert wants_write_test(Observed.WRITEABLE, 30)
    assert wants_write_test(Observed.READABLE, 30)


def test_usage_is_recorded_by_one_monitor() -> None:
    """Changed usage is recorded every 15 seconds, unchanged usage every minute, by any one monitor; a time in the
    future is ignored."""

    def device(asof: int | None) -> Device:
        return Device(1, 1, DeviceState.ALIVE, mb_total=10, mb_used=5, mb_asof=asof)

    assert worth_recording(device(None), (10, 5), 1000)
    assert not worth_recording(device(990), (10, 6), 1000)
    assert worth_recording(device(985), (10, 6), 1000)
    assert not worth_recording(device(985), (10, 5), 1000)
    assert worth_recording(device(940), (10, 5), 1000)
    assert worth_recording(device(4600), (10, 5), 1000)


def test_pauses_grow() -> None:
    """The pauses after failures are MogileFS's, within a fifth, and at most a day and a fifth."""
    rng = Random(1)
    middle = [15, 60, 300, 1800, 3600, 7200, 14400, 28800, 86400, 86400]
    for failcount, pause in enumerate(middle):
        assert 0.8 * pause - 1 <= backoff.after_failed_replication(failcount, rng) <= 1.2 * pause + 1
    assert backoff.while_not_writeable(2) == 720
    assert backoff.while_not_allowed(2) == 10800
    assert backoff.after_failed_deletion(0) == 60
    assert backoff.after_failed_deletion(2) == 5400
    assert backoff.after_failed_deletion(30000) == backoff.LONGEST
    assert all(0.25 <= backoff.after_errors(count, rng) <= 60 for count in range(1, 2000))
