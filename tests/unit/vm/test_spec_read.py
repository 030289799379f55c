"""Reading a NAME.toml: the classic default, all mistakes at once, each with its line and remedy."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.vm import guest_json, spec
from tawara.vm.errors import SpecError
from tawara.vm.schema import guest_schema
from tawara.vm.spec_fields import read_size, show_size
from tawara.vm.spec_read import read_guest
from tawara.vm.template import describe

CLASSIC = ["nat0", "nat1", "host0", "host1"]


def mistakes(text: str) -> list[str]:
    """The mistakes of a description, each as `line where`."""
    with pytest.raises(SpecError) as caught:
        read_guest(text, "web.toml", "web")
    return [f"{each.line} {each.where}" for each in caught.value.mistakes]


def test_an_empty_description_is_the_classic_guest() -> None:
    """256 MB, a 5 GB disk, two NAT and two host-only cards, named after the file."""
    guest = read_guest("", "web.toml", "web")
    assert (guest.name, guest.fqdn, guest.memory, guest.disk) == ("web", "web.example", 256 << 20, 5 << 30)
    assert [nic.network.name for nic in guest.nics] == CLASSIC


def test_the_template_of_init_is_the_classic_guest() -> None:
    """The commented template has the defaults: it gives the same guest as an empty file."""
    assert read_guest(describe("web"), "web.toml", "web") == read_guest("", "web.toml", "web")


def test_all_mistakes_are_reported_at_once() -> None:
    """Wrong type, unknown key, bad value in a table of a list: one run reports them all."""
    text = 'memory = 256\nverzion = "1"\ncpus = 0\n\n[disk]\nbus = "usb"\n'
    text += '\n[[nic]]\nnetwork = "nat1"\n\n[[nic]]\nip = "10.0.0.1"\n'
    assert mistakes(text) == ["1 memory", "2 verzion", "3 cpus", "6 disk.bus", "12 nic[1].ip"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('fqdn = "Not A Name"', ["1 fqdn"]),
        ("name = 5", ["1 name"]),
        ('[[nic]]\nmac = "01:00:00:00:00:01"', ["2 nic[0].mac"]),
        ('[[nic]]\nip = "192.168.231.20"\n[[nic]]\nip = "192.168.231.20"', ["1 nic"]),
        ("nic = []", ["1 nic"]),
        ('[[file]]\npath = "etc/motd"\ncontent = ""', ["2 file[0].path"]),
        ('[[file]]\npath = "/etc/motd"', ["1 file[0]"]),
        ('[[share]]\nsource = "/a"\ntarget = "b"', ["3 share[0].target"]),
        ('base = "classic"\n[disk]\nbus = "virtio"\n[[nic]]\nmodel = "virtio"', ["2 disk", "4 nic"]),
        (f'image = "{__file__}"', ["1 image"]),
        (f'image = "{__file__}"\nimage_sha256 = "1f"', ["2 image_sha256"]),
        (f'image = "/absent.qcow2"\nimage_sha256 = "{"0" * 64}"', ["1 image"]),
        ('image_sha256 = "1f"\naugeas = ["rm /files/etc/motd"]', ["1 image_sha256", "2 augeas"]),
        (
            f'image = "{__file__}"\nimage_sha256 = "{"0" * 64}"\nbase = "tiny"\npackages = ["nginx"]\n'
            'services = ["nginx"]\nimage_host_key = "ssh-rsa AAAA"',
            ["3 base", "4 packages", "5 services", "6 image_host_key"],
        ),
        ('packages = ["nginx"]', ["1 packages"]),
        ('[network.lan]\nsubnet = "10.0.0.0/30"', ["2 network.lan.subnet"]),
        ("[disk\n", ["1 TOML"]),
        ('[disk]\nbus = "sata"', ["1 disk"]),
        ('\n[[nic]]\nmodel = "e1000"', ["2 nic"]),
        ('base = "debian12"\n[[share]]\nsource = "/a"\ntarget = "/b"\nkind = "9p"', ["2 share"]),
        (
            'base = "classic"\ndisk = {bus = "ide"}\n[[nic]]\nmodel = "e1000"\n[[share]]\nsource = "/a"\ntarget = "/b"',
            ["5 share"],
        ),
        ('[[nic]]\nnetwork = "host0"\n[[nic]]\nnetwork = "host0"', ["3 nic[1]"]),
        ('[[file]]\npath = "/a"\ncontent = ""\n[[file]]\npath = "/a"\ncontent = ""', ["5 file[1].path"]),
        (
            '[[share]]\nsource = "/a"\ntarget = "/m"\n[[share]]\nsource = "/b"\ntarget = "/m"',
            ["6 share[1].target"],
        ),
        ('[data]\nmount = "/m"\n[[share]]\nsource = "/a"\ntarget = "/m"', ["3 share"]),
        ('[network.lan]\nsubnet = "8.8.8.0/24"', ["2 network.lan.subnet"]),
        ('[network.lan]\nsubnet = "10.0.0.0/8"', ["2 network.lan.subnet"]),
        (
            '[network.lan]\nsubnet = "192.168.231.0/24"\n[[nic]]\n[[nic]]\nnetwork = "lan"',
            ["1 network"],
        ),
        ('authorized_keys = ["hello"]', ["1 authorized_keys[0]"]),
    ],
)
def test_a_mistake_has_the_authors_line_and_key(text: str, expected: list[str]) -> None:
    """The line and the key of a mistake are those that the author wrote."""
    assert mistakes(text) == expected


def test_every_mistake_has_a_remedy() -> None:
    """A message says what to do, not only what is wrong."""
    with pytest.raises(SpecError) as caught:
        read_guest('memory = "lots"', "web.toml", "web")
    assert 'Write it like "256M"' in str(caught.value)
    assert "line 1" in str(caught.value)


def test_the_source_of_a_file(tmp_path: Path) -> None:
    """`source` is relative to the description's directory."""
    (tmp_path / "motd").write_bytes(b"hi")
    guest = read_guest('[[file]]\npath = "/etc/motd"\nsource = "motd"', "web.toml", "web", tmp_path)
    assert guest.files == (spec.File("/etc/motd", b"hi", 0o644),)


def test_networks_are_used_by_name() -> None:
    """A [network.NAME] can be defined, and a card's derived address is in it."""
    guest = read_guest('[network.lan]\nkind = "host"\nsubnet = "10.9.0.0/24"\n[[nic]]\nnetwork = "lan"', "w.toml", "w")
    assert IPv4Address("10.9.0.10") <= guest.primary.ip <= IPv4Address("10.9.0.239")


@given(st.integers(min_value=0, max_value=1 << 50))
def test_sizes_round_trip(size: int) -> None:
    """show_size and read_size are inverse."""
    assert read_size(show_size(size)) == size


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """For any text the result is a guest or a list of mistakes, never another error."""
    try:
        read_guest(text, "web.toml", "web")
    except SpecError as error:
        assert error.mistakes


@given(
    st.sampled_from(sorted(guest_schema()["properties"])),
    st.integers() | st.booleans() | st.lists(st.integers(), max_size=2),
)
def test_values_of_wrong_types(key: str, value: object) -> None:
    """For a value of any type, a known key gives a guest or mistakes, never another error."""
    text = f"{key} = {str(value).lower()}"
    try:
        read_guest(text, "web.toml", "web")
    except SpecError as error:
        assert error.mistakes


def test_a_guest_round_trips_through_json() -> None:
    """The JSON in a package gives the same guest."""
    guest = read_guest('[data]\nsize = "1G"\nmount = "/data"\n[[share]]\nsource = "/a"\ntarget = "/b"', "w.toml", "w")
    assert guest_json.read(guest_json.write(guest)) == guest
