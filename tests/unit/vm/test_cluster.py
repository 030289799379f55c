"""Reading a cluster.toml: reserved addresses, defaults and roles of guests, all mistakes at once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.vm.cluster import GuestCluster, is_cluster, keep_addresses, read_cluster, show
from tawara.vm.definition import claims, network_claims
from tawara.vm.errors import SpecError
from tawara.vm.schema import cluster_schema
from tawara.vm.template import describe_cluster

TRIO = Path(__file__).parents[3] / "examples" / "trio" / "trio.toml"


def test_the_example_is_three_guests_on_one_network() -> None:
    """The shipped example is parsed as its comments say."""
    text = TRIO.read_text()
    assert is_cluster(text)
    cluster = read_cluster(text, "trio.toml", "trio")
    assert {name: guest["addresses"] for name, guest in show(cluster)["guests"].items()} == {
        "one": {"trio0": "192.168.240.10"},
        "two": {"trio0": "192.168.240.11"},
        "three": {"trio0": "192.168.240.12"},
    }
    assert [guest.order for guest in cluster.guests] == [10, 10, 50]


def test_a_guests_setting_overrides_its_role_and_the_defaults() -> None:
    """Settings are overridden from general to specific; lists of additions are joined."""
    text = (
        '[defaults]\nmemory = "64M"\nservices = ["a"]\n[role.big]\nmemory = "128M"\nservices = ["b"]\n'
        '[guest.one]\n[guest.two]\nrole = "big"\n[guest.three]\nrole = "big"\nmemory = "512M"\n'
    )
    guests = read_cluster(text, "c.toml", "c").guests
    assert [guest.memory >> 20 for guest in guests] == [64, 128, 512]
    assert [guest.services for guest in guests] == [("a",), ("a", "b"), ("a", "b")]


def test_inherited_mistakes_are_reported_once() -> None:
    """A mistake inherited by several guests is reported once, in its place: in defaults, in a role, in the second of
    its files."""
    text = (
        '[defaults]\nmemory = "lots"\ncommands = ["true"]\n[[defaults.file]]\npath = "/a"\ncontent = ""\n'
        '[role.server]\ncommands = ["true", 5]\n[[role.server.file]]\npath = "b"\ncontent = ""\n'
        '[role.server.disk]\nbus = "usb"\n'
        '[guest.one]\nrole = "server"\n[[guest.one.file]]\npath = "/c"\n[guest.two]\nrole = "server"\n'
        '[guest.three]\nrole = "none"\n'
    )
    with pytest.raises(SpecError) as caught:
        read_cluster(text, "c.toml", "c")
    assert [(each.line, each.where) for each in caught.value.mistakes] == [
        (2, "defaults.memory"),
        (8, "role.server.commands[1]"),
        (10, "role.server.file[0].path"),
        (13, "role.server.disk.bus"),
        (16, "guest.one.file[0]"),
        (21, "guest.three.role"),
    ]
    assert all(each.remedy for each in caught.value.mistakes)


def test_an_unused_role_is_checked() -> None:
    """Its mistakes are reported, except that it is no complete guest."""
    text = '[role.spare]\npackages = ["nginx"]\nverzion = "1"\n[guest.one]\n'
    with pytest.raises(SpecError) as caught:
        read_cluster(text, "c.toml", "c")
    assert [(each.line, each.where) for each in caught.value.mistakes] == [(3, "role.spare.verzion")]


def test_the_template_of_init_has_three_guests() -> None:
    """The template of a cluster is one, with its own network and a second card to the outside."""
    guests = read_cluster(describe_cluster("shop"), "shop.toml", "shop").guests
    assert [guest.fqdn for guest in guests] == ["one.shop.example", "two.shop.example", "three.shop.example"]
    assert [[nic.network.name for nic in guest.nics] for guest in guests] == [["shop0", "nat0"]] * 3
    assert [guest.order for guest in guests] == [10, 10, 50]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[addresses]\nhost0 = "192.168.233.10-192.168.233.10"\n[guest.a]\n[guest.b]\n', "addresses"),
        ('[addresses]\nhost0 = "10.0.0.1-10.0.0.9"\n[guest.a]\n', "addresses.host0"),
        ('[addresses]\nlan = "10.0.0.1-10.0.0.9"\n[guest.a]\n', "addresses.lan"),
        ("[guest]\n", "guest"),
        ('[guest.a]\nrole = "b"\n', "guest.a.role"),
        ("[guest.a]\nrole = 5\n", "guest.a.role"),
        ('verzion = "1"\n[guest.a]\n', "verzion"),
    ],
)
def test_kinds_of_mistakes(text: str, where: str) -> None:
    """Ranges that are too small, foreign or unknown, missing guests, unknown settings are refused."""
    with pytest.raises(SpecError) as caught:
        read_cluster(text, "c.toml", "c")
    assert where in [each.where for each in caught.value.mistakes]


@given(st.lists(st.from_regex(r"[a-z][a-z0-9]{0,7}", fullmatch=True), min_size=1, max_size=12, unique=True))
def test_guests_have_distinct_claims(names: list[str]) -> None:
    """For any names of guests, names and addresses are unique; a later guest changes no earlier one."""
    text = 'outside = "none"\n' + "".join(f"[guest.{name}]\n" for name in names)
    guests = read_cluster(text, "c.toml", "c").guests
    every = [claim for guest in guests for claim in claims(guest)]
    assert len(every) == len(set(every))
    longer = read_cluster(f"{text}[guest.zzzzzzzzz]\n", "c.toml", "c").guests
    assert longer[:-1] == guests


def by_name(cluster: GuestCluster) -> dict[str, str]:
    """Every address of every guest, as one text each."""
    return {guest.name: " ".join(str(nic.ip) for nic in guest.nics) for guest in cluster.guests}


NAMES = st.lists(st.sampled_from([f"g{number}" for number in range(12)]), min_size=1, max_size=8, unique=True)


@given(st.lists(NAMES, min_size=2, max_size=6))
def test_guests_keep_their_addresses(versions: list[list[str]]) -> None:
    """From version to version, with any guest added, removed, moved or restored, each keeps its addresses."""
    head = '[network.shop0]\nsubnet = "192.168.240.0/24"\n[addresses]\nshop0 = "192.168.240.10-192.168.240.29"\n'
    seen: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        for names in versions:
            text = head + "".join(f"[guest.{each}]\n" for each in names)
            cluster = read_cluster(text, "shop.toml", "shop", Path(name))
            now = by_name(cluster)
            assert {each: ip for each, ip in seen.items() if each in now} == {
                each: ip for each, ip in now.items() if each in seen
            }
            seen |= now
            assert len({ip for row in seen.values() for ip in row.split()}) == 2 * len(seen), "each is one guest's"
            keep_addresses(Path(name) / "shop.keys", cluster)


def test_a_full_range_reuses_a_former_guests_address(tmp_path: Path) -> None:
    """An address is reused only if no other is left, and the former guest's claim to it is removed."""
    text = '[network.s]\nsubnet = "10.1.0.0/24"\n[addresses]\ns = "10.1.0.10-10.1.0.11"\n'
    text = f'outside = "none"\n{text}'
    for names, expected in ((("a", "b"), ("10", "11")), (("b", "c"), ("11", "10")), (("c", "a"), ("10", "11"))):
        described = text + "".join(f"[guest.{name}]\n" for name in names)
        cluster = read_cluster(described, "c.toml", "c", tmp_path)
        assert by_name(cluster) == {name: f"10.1.0.{end}" for name, end in zip(names, expected, strict=True)}
        keep_addresses(tmp_path / "c.keys", cluster)


def test_an_explicit_address_takes_precedence(tmp_path: Path) -> None:
    """A guest that describes its cards gets their addresses; another guest that had one gets a different one."""
    head = 'outside = "none"\n[network.s]\nsubnet = "10.1.0.0/24"\n[addresses]\ns = "10.1.0.10-10.1.0.19"\n'
    cluster = read_cluster(f"{head}[guest.a]\n[guest.b]\n", "c.toml", "c", tmp_path)
    keep_addresses(tmp_path / "c.keys", cluster)
    own = f'{head}[guest.a]\n[guest.b]\n[[guest.b.nic]]\nnetwork = "s"\nip = "10.1.0.10"\n'
    assert by_name(read_cluster(own, "c.toml", "c", tmp_path)) == {"a": "10.1.0.12", "b": "10.1.0.10"}


def test_two_clusters_of_init_can_run_on_one_host() -> None:
    """Each has its own network and names, though their guests have equal names."""
    shop = read_cluster(describe_cluster("shop"), "shop.toml", "shop")
    used = [nic.network.subnet for guest in shop.guests for nic in guest.nics]
    lab = read_cluster(describe_cluster("lab", used=used), "lab.toml", "lab")
    assert shop.package == "tawara-cluster-shop" != lab.package
    assert [guest.name for guest in lab.guests] == ["lab-one", "lab-two", "lab-three"]
    every = [claim for cluster in (shop, lab) for guest in cluster.guests for claim in claims(guest)]
    assert len(every) == len(set(every))
    links: dict[str, str] = {}
    for guest in (*shop.guests, *lab.guests):
        for claim, place in network_claims(guest).items():
            assert links.setdefault(claim, place) == place


_ANYTHING = st.recursive(
    st.integers() | st.booleans() | st.text("ab .-/1", max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "role", "nic"]), inner),
    max_leaves=4,
)


@given(st.sampled_from(sorted(cluster_schema()["properties"])), _ANYTHING)
def test_values_of_wrong_types(key: str, value: object) -> None:
    """For a value of any type, a known key gives a cluster or mistakes, never another error."""
    text = f"{key} = {_toml(value)}\n" + ("" if key == "guest" else "[guest.a]\n")
    try:
        read_cluster(text, "c.toml", "c")
    except SpecError as error:
        assert error.mistakes


def _toml(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case _:
            return json.dumps(value)
