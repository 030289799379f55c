"""What is wrong with a cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tawara.cli.health import problems
from tawara.client.answers import DeviceInfo
from tawara.model.cluster import DeviceState, Host, HostState, Observed

HOST = Host(1, "h", HostState.ALIVE, "127.0.0.1")
DEVICE = DeviceInfo(1, 1, DeviceState.ALIVE, 100, 1000, 500, Observed.WRITEABLE, None)
SECOND = replace(DEVICE, devid=2)


def test_nothing_is_wrong() -> None:
    """A cluster whose parts all work has no problems."""
    assert problems({"a:1": None}, [HOST], [DEVICE]) == []


@pytest.mark.parametrize(
    ("device", "words"),
    [
        (replace(DEVICE, state=DeviceState.DEAD), "is dead"),
        (replace(DEVICE, state=DeviceState.DRAIN), "is drain"),
        (replace(DEVICE, observed=Observed.READABLE), "is alive, but readable"),
        (replace(DEVICE, observed=Observed.UNREACHABLE), "is alive, but unreachable"),
        (replace(DEVICE, observed=None), "has not been looked at yet"),
        (replace(DEVICE, mb_used=960), "is 96% full"),
    ],
)
def test_a_device_in_trouble_is_named(device: DeviceInfo, words: str) -> None:
    """Each state that is not as it should be is said once, with device and host."""
    assert problems({}, [HOST], [device, SECOND]) == [f"Device dev1 on h {words}"]


def test_hosts_trackers_and_the_whole() -> None:
    """A host out of service is said once and not for each device; no room for new files is said too."""
    down = replace(HOST, state=HostState.DOWN)
    assert problems({"a:1": "hung up", "b:1": None}, [down], [DEVICE, SECOND]) == [
        "Tracker a:1: hung up",
        "Host h is down",
        "No device takes new files",
    ]
