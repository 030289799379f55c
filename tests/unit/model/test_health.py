"""Disk health: its lines, several disks behind one device, and which devices are drained."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.cluster import Cluster, DeviceState
from tawara.model.failing import DRAIN_FAILING, DRAINED_AT_ONCE, is_failing, to_drain
from tawara.model.health import DiskHealth, DiskVerdict, worst
from tests.unit.model.clusters import cluster, clusters

FAILING = DiskHealth(DiskVerdict.FAILING, 40, "it says so", 1)


def test_lines_round_trip() -> None:
    """The lines of a usage file are parsed as written; missing or invalid lines give nothing."""
    lines = DiskHealth(DiskVerdict.WORN, 38, "8 sectors\nreallocated", 77).lines()
    assert lines == "health: worn\nhealth_detail: 8 sectors reallocated\nhealth_time: 77\ntemperature: 38\n"
    values = dict(line.split(": ") for line in lines.splitlines())
    assert DiskHealth.read(values) == DiskHealth(DiskVerdict.WORN, 38, "8 sectors reallocated", 77)
    assert DiskHealth.read({}) is None
    assert DiskHealth.read({"health": "splendid", "temperature": "38"}) is None
    assert DiskHealth.read({"health": "ok", "temperature": "hot"}) == DiskHealth(DiskVerdict.OK)


def test_several_disks() -> None:
    """A device on several disks has the verdict of the worst and the temperature of the hottest."""
    assert worst([]) is None
    cool, hot = DiskHealth(DiskVerdict.FAILING, 30, "bad", 9), DiskHealth(DiskVerdict.OK, 55, "", 5)
    assert worst([hot, cool, DiskHealth(DiskVerdict.UNKNOWN)]) == DiskHealth(DiskVerdict.FAILING, 55, "bad", 5)


def sick(seen: Cluster, *devids: int, setting: str = "1") -> Cluster:
    """The same cluster with these disks failing."""
    observed = {
        devid: replace(each, health=FAILING if devid in devids else None) for devid, each in seen.observed.items()
    }
    return replace(seen, observed=observed, settings={**seen.settings, DRAIN_FAILING: setting})


EIGHT = cluster({1: [11, 12, 13, 14], 2: [21, 22, 23, 24]})


def test_a_failing_disk_is_drained_if_enabled() -> None:
    """Draining is off by default; if enabled, at most a quarter of all devices are drained at once."""
    assert to_drain(sick(EIGHT, 11, setting="0")) == ()
    assert to_drain(replace(sick(EIGHT, 11), settings={})) == ()
    assert to_drain(sick(EIGHT)) == ()
    assert to_drain(sick(EIGHT, 11)) == (11,)
    assert to_drain(sick(EIGHT, 11, 12, 21, 22)) == (11, 12)
    drained = cluster({1: [11, 12, 13, 14], 2: [21, 22, 23, 24]}, dev24=DeviceState.DRAIN)
    assert to_drain(sick(drained, 11, 12)) == (11,)


def test_the_last_device_is_not_drained() -> None:
    """One device for new files is always left."""
    assert to_drain(sick(cluster({1: [11]}), 11)) == ()
    assert to_drain(sick(cluster({1: [11], 2: [21]}), 11, 21)) == (11,)


@given(clusters(), st.sets(st.integers(1, 9)))
def test_draining_respects_its_limits(seen: Cluster, failing: set[int]) -> None:
    """Only failing devices that are alive are drained, within the limit, and never the last one for new files."""
    ill = sick(seen, *failing)
    chosen = to_drain(ill)
    for devid in chosen:
        assert is_failing(ill, devid)
        assert ill.devices[devid].state is DeviceState.ALIVE
    if chosen:
        draining = sum(device.state is DeviceState.DRAIN for device in ill.devices.values())
        assert len(chosen) + min(draining, 0) <= max(1, DRAINED_AT_ONCE * len(ill.devices))
        assert any(ill.should_get_new_files(devid) for devid in ill.devices if devid not in chosen)
