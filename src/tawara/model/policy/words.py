"""Describes replication policies in words."""

from __future__ import annotations

from tawara.model.policy.networks import HostsPerNetwork, MultipleNetworks
from tawara.model.policy.results import Policy
from tawara.model.policy.spread import MultipleDevices, MultipleHosts
from tawara.model.policy.union import Union


def describe(policy: Policy, mindevcount: int) -> str:
    """Describe the policy's requirement for a class with this mindevcount; a phrase to follow "wants"."""
    match policy:
        case MultipleHosts(copies):
            return _copies(copies or mindevcount, "on different hosts")
        case MultipleDevices(copies):
            return _copies(copies or mindevcount, "on different devices")
        case MultipleNetworks(copies):
            return _copies(copies or mindevcount, "in different networks and on different hosts")
        case HostsPerNetwork(wanted):
            return " and ".join(_copies(number, f"in network {zone}, on different hosts") for zone, number in wanted)
        case Union(parts):
            return ", and also ".join(describe(part, mindevcount) for part in parts)
        case _:
            return "copies as its code decides"


def _copies(number: int, where: str) -> str:
    return (
        "1 copy" if number == 1 and "network " not in where else f"{number} cop{'y' if number == 1 else 'ies'} {where}"
    )
