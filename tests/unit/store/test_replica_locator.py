"""The order of devices to read a file from."""

from __future__ import annotations

import random

from tawara.model.cluster import Cluster, Device, DeviceState, Host, HostState, Observation, Observed
from tawara.model.files import StoredFile
from tawara.store.replica_locator import devices_to_read


def test_devices_to_read() -> None:
    """Responding devices come first, then draining ones, then silent ones; unreadable ones are left out."""
    states = {1: DeviceState.DRAIN, 2: DeviceState.ALIVE, 3: DeviceState.ALIVE, 4: DeviceState.DOWN}
    cluster = Cluster(
        hosts={1: Host(1, "h", HostState.ALIVE, "127.0.0.1")},
        devices={devid: Device(devid, 1, state) for devid, state in states.items()},
        observed={1: Observation(Observed.READABLE), 2: Observation(Observed.WRITEABLE)},
    )
    file = StoredFile(7, 1, b"k", 1, 0, 4, (1, 2, 3, 4, 9))
    assert devices_to_read(cluster, file, random.Random(0)) == [2, 1, 3]
    assert devices_to_read(cluster, StoredFile(7, 1, b"k", 1, 0, 1, (4,)), random.Random(0)) == []
