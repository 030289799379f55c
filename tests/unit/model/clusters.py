"""Clusters for tests: small ones, and random ones by hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from hypothesis import strategies as st

from tawara.model.cluster import Cluster, Device, DeviceState, Host, HostState, Observation, Observed

T = TypeVar("T")

WRITEABLE = Observation(Observed.WRITEABLE)


def cluster(
    hosts: Mapping[int, list[int]], *, settings: Mapping[str, str] | None = None, **states: DeviceState
) -> Cluster:
    """Hosts (by number) with their devices, half full and writeable, except for `devN=state`. Host 12 has the address
    10.1.0.12, host 205 the address 10.20.0.205: the tens and hundreds determine the network."""
    devices = {
        devid: Device(devid, hostid, states.get(f"dev{devid}", DeviceState.ALIVE), mb_total=1000, mb_used=500)
        for hostid, devids in hosts.items()
        for devid in devids
    }
    return Cluster(
        hosts={hostid: Host(hostid, f"h{hostid}", HostState.ALIVE, address(hostid)) for hostid in hosts},
        devices=devices,
        observed=dict.fromkeys(devices, WRITEABLE),
        settings=settings or {},
    )


def address(hostid: int) -> str:
    """The address of a host, see `cluster`."""
    return f"10.{hostid // 10}.0.{hostid}"


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Any cluster of up to five hosts in up to three networks, in any state."""
    hosts = {
        hostid: Host(hostid, f"h{hostid}", draw(_mostly(HostState.ALIVE, *HostState)), address(hostid))
        for hostid in draw(st.sets(st.integers(10, 39), min_size=1, max_size=5))
    }
    devices: dict[int, Device] = {}
    observed: dict[int, Observation] = {}
    for devid in range(1, draw(st.integers(1, 9)) + 1):
        state = draw(_mostly(DeviceState.ALIVE, *DeviceState))
        total = draw(st.sampled_from([None, 1000, 5000]))
        used = None if total is None else draw(st.sampled_from([total // 10, total // 2, total - 50, total]))
        devices[devid] = Device(devid, draw(st.sampled_from(sorted(hosts))), state, mb_total=total, mb_used=used)
        seen = draw(_mostly(Observed.WRITEABLE, None, *Observed))
        if seen is not None:
            observed[devid] = Observation(seen)
    settings = draw(
        st.sampled_from([{}, {"network_zones": "near,far", "zone_near": "10.1.0.0/16", "zone_far": "10.2.0.0/16"}])
    )
    return Cluster(hosts=hosts, devices=devices, observed=observed, settings=settings)


def _mostly(usual: T, *all_of_them: T) -> st.SearchStrategy[T]:
    return st.sampled_from([usual] * 3 * len(all_of_them) + list(all_of_them))
