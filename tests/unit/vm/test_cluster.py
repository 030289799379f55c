"""Reading a cluster.toml: reserved addresses by turn, defaults and roles beneath each guest, every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.vm.cluster import is_cluster, read_cluster, show
from tawara.vm.definition import claims
from tawara.vm.errors import SpecError

TRIO = Path(__file__).parents[3] / "examples" / "trio" / "trio.toml"


def test_the_example_is_three_guests_on_one_network() -> None:
    """The shipped example reads as what its comments say."""
    text = TRIO.read_text()
    assert is_cluster(text)
    cluster = read_cluster(text, "trio.toml", "trio")
    assert {name: guest["addresses"] for name, guest in show(cluster)["guests"].items()} == {
        "one": {"trio0": "192.168.240.10"},
        "two": {"trio0": "192.168.240.11"},
        "three": {"trio0": "192.168.240.12"},
    }
    assert [guest.order for guest in cluster.guests] == [10, 10, 50]


def test_a_guests_own_setting_beats_its_roles_and_the_defaults() -> None:
    """Settings replace from the outside in; lists of what to add are joined."""
    text = (
        '[defaults]\nmemory = "64M"\nservices = ["a"]\n[role.big]\nmemory = "128M"\nservices = ["b"]\n'
        '[guest.one]\n[guest.two]\nrole = "big"\n[guest.three]\nrole = "big"\nmemory = "512M"\n'
    )
    guests = read_cluster(text, "c.toml", "c").guests
    assert [guest.memory >> 20 for guest in guests] == [64, 128, 512]
    assert [guest.services for guest in guests] == [("a",), ("a", "b"), ("a", "b")]


def test_mistakes_stand_where_they_were_written() -> None:
    """A wrong default is told at its own line, an unknown role at the guest's."""
    text = '[defaults]\nmemory = "lots"\n[guest.one]\n[guest.two]\nrole = "none"\n'
    with pytest.raises(SpecError) as caught:
        read_cluster(text, "c.toml", "c")
    found = {(each.line, each.where) for each in caught.value.mistakes}
    assert (2, "guest.one.memory") in found
    assert (5, "guest.two.role") in found


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[addresses]\nhost0 = "192.168.233.10-192.168.233.10"\n[guest.a]\n[guest.b]\n', "addresses"),
        ('[addresses]\nhost0 = "10.0.0.1-10.0.0.9"\n[guest.a]\n', "addresses.host0"),
        ('[addresses]\nlan = "10.0.0.1-10.0.0.9"\n[guest.a]\n', "addresses.lan"),
        ("[guest]\n", "guest"),
        ('verzion = "1"\n[guest.a]\n', "verzion"),
    ],
)
def test_each_kind_of_mistake_is_found(text: str, where: str) -> None:
    """Ranges that are too small, foreign or unknown, no guests, unknown settings."""
    with pytest.raises(SpecError) as caught:
        read_cluster(text, "c.toml", "c")
    assert where in [each.where for each in caught.value.mistakes]


@given(st.lists(st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True), min_size=1, max_size=12, unique=True))
def test_no_two_guests_claim_the_same(names: list[str]) -> None:
    """Whatever the guests are called, names and addresses are each one's own; a later one changes no earlier."""
    text = 'outside = "none"\n' + "".join(f"[guest.{name}]\n" for name in names)
    guests = read_cluster(text, "c.toml", "c").guests
    every = [claim for guest in guests for claim in claims(guest)]
    assert len(every) == len(set(every))
    longer = read_cluster(f"{text}[guest.zzzzzzzzz]\n", "c.toml", "c").guests
    assert longer[:-1] == guests
