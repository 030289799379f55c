"""Replication policies: how many copies a file should have, and where (docs/mogilefs.md 10).

A policy is a frozen value, parsed from a class's text. Given a `Situation` it returns the next action; the replication
worker performs it and calls the policy again.
"""

from tawara.model.policy.choice import can_place, pick_surplus, plan_destinations
from tawara.model.policy.networks import HostsPerNetwork, MultipleNetworks
from tawara.model.policy.results import (
    Copy,
    NoAnswer,
    OverReplicated,
    Policy,
    PolicyResult,
    Satisfied,
    Situation,
    is_content,
)
from tawara.model.policy.spread import MultipleDevices, MultipleHosts
from tawara.model.policy.text import parse
from tawara.model.policy.union import Union

__all__ = [
    "Copy",
    "HostsPerNetwork",
    "MultipleDevices",
    "MultipleHosts",
    "MultipleNetworks",
    "NoAnswer",
    "OverReplicated",
    "Policy",
    "PolicyResult",
    "Satisfied",
    "Situation",
    "Union",
    "can_place",
    "is_content",
    "parse",
    "pick_surplus",
    "plan_destinations",
]
