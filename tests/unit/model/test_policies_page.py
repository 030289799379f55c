"""docs/policies.md: every policy on the page is parsed, and decides what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest

from tawara.model.errors import InvalidReplpolicy
from tawara.model.policy import Copy, NoAnswer, OverReplicated, Satisfied, Situation, parse
from tawara.model.policy import text as policy_text
from tests.unit.model.clusters import cluster

PAGE = (Path(__file__).parents[3] / "docs" / "policies.md").read_text()
ZONES = {"network_zones": "near,far", "zone_near": "10.1.0.0/16", "zone_far": "10.2.0.0/16"}
CLUSTER = cluster({10: [1, 2], 11: [3], 20: [4, 5], 30: [6]}, settings=ZONES)
RESULTS = {"satisfied": Satisfied, "copy": Copy, "surplus": OverReplicated, "no device": NoAnswer}
EXAMPLES = re.findall(r"^\| `([^`]+)` \| ((?:dev\d ?)+) \| ([a-z ]+?) \| ((?:dev\d ?)*)\|$", PAGE, re.MULTILINE)


def devices(text: str) -> set[int]:
    """The ids in `dev1 dev2`."""
    return {int(each) for each in re.findall(r"dev(\d)", text)}


@pytest.mark.parametrize(("policy", "on", "result", "following"), EXAMPLES)
def test_an_example_of_the_page(policy: str, on: str, result: str, following: str) -> None:
    """The policy gives the result, and prefers the devices, that the table states."""
    decided = parse(policy).decide(Situation.of(CLUSTER, devices(on), 2), Random(7))
    assert type(decided) is RESULTS[result]
    assert set(decided.ideal if isinstance(decided, Copy) else ()) == devices(following)


def test_the_page_has_all_policies_zones_and_refusals() -> None:
    """Each of the five policies has an example, the zones are those of the examples, and the refused are refused."""
    assert {policy.partition("(")[0] for policy, *_ in EXAMPLES} == {
        "MultipleHosts",
        "MultipleDevices",
        "MultipleNetworks",
        "HostsPerNetwork",
        "Union",
    }
    assert dict(re.findall(r"tawara settings set (\w+) (\S+)", PAGE)) == ZONES
    hosts = re.findall(r"^\| h(\d+) \| (\S+) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    for hostid, address, devids in hosts:
        assert CLUSTER.hosts[int(hostid)].ip == address
        assert {each.devid for each in CLUSTER.devices.values() if each.hostid == int(hostid)} == devices(devids)
    assert len(hosts) == len(CLUSTER.hosts)
    refused = re.findall(r"`([^`]+)`", PAGE.partition("cannot be parsed is refused:")[2])
    assert len(refused) == 3
    for each in refused:
        with pytest.raises(InvalidReplpolicy):
            parse(each)
    assert f"`{policy_text.NAMESPACE}`" in PAGE
