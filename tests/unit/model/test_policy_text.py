"""The text of a policy in a class."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import InvalidReplpolicy
from tawara.model.policy import HostsPerNetwork, MultipleDevices, MultipleHosts, MultipleNetworks, Union, parse


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("MultipleHosts()", MultipleHosts()),
        ("MultipleHosts(0)", MultipleHosts()),
        (" MultipleHosts ( 3 ) ", MultipleHosts(3)),
        ("MogileFS::ReplicationPolicy::MultipleHosts(3)", MultipleHosts(3)),
        ("MultipleDevices(2)", MultipleDevices(2)),
        ("MultipleNetworks()", MultipleNetworks()),
        ("HostsPerNetwork(near=2, far=1)", HostsPerNetwork((("near", 2), ("far", 1)))),
        (
            "Union(MultipleHosts(2), HostsPerNetwork(near=1,far=1))",
            Union((MultipleHosts(2), HostsPerNetwork((("near", 1), ("far", 1))))),
        ),
        ("Union(Union(MultipleDevices(2)),MultipleHosts())", Union((Union((MultipleDevices(2),)), MultipleHosts()))),
    ],
)
def test_reads(text: str, policy: object) -> None:
    """Every policy of docs/mogilefs.md is parsed, with blanks anywhere and with MogileFS's full name."""
    assert parse(text) == policy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MultipleHosts",
        "MultipleHosts(",
        "MultipleHosts(two)",
        "MultipleHosts(-1)",
        "MultipleHosts(1,2)",
        "MultipleHosts()MultipleHosts()",
        "Nonesuch()",
        "HostsPerNetwork()",
        "HostsPerNetwork(near)",
        "HostsPerNetwork(near=0)",
        "Union()",
        "Union(MultipleHosts(),)",
        "Union(" * 20 + "MultipleHosts()" + ")" * 20,
    ],
)
def test_refuses(text: str) -> None:
    """An invalid policy is refused with a message."""
    with pytest.raises(InvalidReplpolicy) as refusal:
        parse(text)
    assert refusal.value.specific


@given(st.text(alphabet="MultipleHosts()0,=Union near", max_size=80))
def test_never_crashes(text: str) -> None:
    """Any text is either a policy or refused."""
    with contextlib.suppress(InvalidReplpolicy):
        parse(text)
