"""Decides whether a policy is fully satisfied, or only as far as the cluster allows."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final

from tawara.model.cluster import Device, DeviceState, Host, HostState
from tawara.model.policy.results import Policy, Situation, is_content

_MANY: Final = 16


def is_ideal(policy: Policy, situation: Situation, rng: random.Random) -> bool:
    """Whether the policy would also be satisfied with many more hosts, each in its own network."""
    cluster = situation.cluster
    host, devid = max(cluster.hosts, default=0) + 1, max(cluster.devices, default=0) + 1
    more = range(_MANY)
    hosts = {host + n: Host(host + n, f"+{n}", HostState.ALIVE, f"10.{n}.255.254") for n in more}
    devices = {devid + n: Device(devid + n, host + n, DeviceState.ALIVE) for n in more}
    larger = replace(cluster, hosts={**cluster.hosts, **hosts}, devices={**cluster.devices, **devices})
    return is_content(policy, replace(situation, cluster=larger), rng)
