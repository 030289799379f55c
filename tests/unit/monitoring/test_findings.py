"""Findings about a cluster's health."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tawara.client.replies import DeviceInfo
from tawara.client.status import StoreStatus
from tawara.model.backlog import Queue
from tawara.model.cluster import DeviceState, Host, HostState, Observed
from tawara.model.health_codes import Finding
from tawara.model.safety import Safety, Tally
from tawara.monitoring.findings import find_risks, problems

HOST = Host(1, "h", HostState.ALIVE, "127.0.0.1")
DEVICE = DeviceInfo(1, 1, DeviceState.ALIVE, 100, 1000, 500, Observed.WRITEABLE, None)
SECOND = replace(DEVICE, devid=2)


def _texts(findings: list[Finding]) -> list[str]:
    return [each.text for each in findings]


def test_nothing_is_wrong() -> None:
    """A cluster whose parts all work has no findings."""
    assert problems({"a:1": None}, [HOST], [DEVICE]) == []


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (replace(DEVICE, state=DeviceState.DEAD), "is dead"),
        (replace(DEVICE, state=DeviceState.DRAIN), "is drain"),
        (replace(DEVICE, observed=Observed.READABLE), "is alive, but readable"),
        (replace(DEVICE, observed=Observed.UNREACHABLE), "is alive, but unreachable"),
        (replace(DEVICE, observed=None), "has not been monitored yet"),
        (replace(DEVICE, mb_used=960), "is 96% full"),
    ],
)
def test_a_device_in_trouble_is_reported(device: DeviceInfo, words: str) -> None:
    """Each abnormal state is reported once, with device and host."""
    assert _texts(problems({}, [HOST], [device, SECOND])) == [f"Device dev1 on h {words}"]


def test_severities() -> None:
    """A drain under way is a note; lost files, and a store that takes none, are critical; the rest are warnings."""
    draining = replace(DEVICE, state=DeviceState.DRAIN)
    down = replace(DEVICE, state=DeviceState.DOWN)
    assert [each.severity for each in problems({"a:1": "hung up"}, [HOST], [draining, down])] == [
        "warning",
        "note",
        "warning",
        "critical",
    ]
    store = _store(replicate=Queue("replicate", due=3, since=400))
    store.safety.lost = Tally(1, 1)
    assert [each.severity for each in find_risks(store)] == ["critical", "warning"]


def test_hosts_trackers_and_space() -> None:
    """A host out of service is reported once and not for each device; lack of space for new files is reported, too."""
    down = replace(HOST, state=HostState.DOWN)
    assert _texts(problems({"a:1": "hung up", "b:1": None}, [down], [DEVICE, SECOND])) == [
        "Tracker a:1: hung up",
        "Host h is down",
        "No device takes new files",
    ]


def _store(**queues: Queue) -> StoreStatus:
    """A store of a hundred safe files with these queues."""
    return StoreStatus(1000, 1000, Safety(files=100, bytes=100), tuple(queues.values()), 1, ())


def test_safe_files_have_no_finding() -> None:
    """Files that are safe, and new ones whose second copy is pending, have no finding."""
    assert find_risks(_store()) == []
    store = _store(replicate=Queue("replicate", due=3, later=2, since=990))
    store.safety.one_device.files = 5
    assert find_risks(store) == []
    store.safety.one_device = store.safety.one_device_wanted = Tally(50, 50)
    assert find_risks(_store()) == []


def test_risks() -> None:
    """Each risk is reported with the number of files, and so is work that no worker handles."""
    store = _store(
        replicate=Queue("replicate", due=3, stuck=1, since=400), upload=Queue("upload", due=9), copy=Queue("copy", 1)
    )
    store.safety.lost, store.safety.unreadable = Tally(1, 1), Tally(2, 2)
    store.safety.one_device, store.safety.one_device_wanted = Tally(7, 7), Tally(4, 4)
    assert _texts(find_risks(store)) == [
        "1 file is lost: no copy is left",
        "2 files are out of reach: no copy can be read now",
        "3 files, which should not be, are one failing device from loss",
        "The first file to replicate has waited for 10 minutes",
        "1 file waits for manual intervention: see `tawara fsck start`",
    ]
    assert "No workers run, and 3 files wait for them" in _texts(find_risks(replace(store, processes=0)))
