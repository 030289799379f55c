"""The record of a folder of packages: a version stays what it is, and no two packages claim the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tawara.vm import build
from tawara.vm.base_image import Base
from tawara.vm.bases.recipe import HostKey
from tawara.vm.build import Options, build_file
from tawara.vm.built import Register
from tawara.vm.delta import Delta
from tawara.vm.errors import BuildError

KEY = HostKey("-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key, but in its place\n", "ssh-ed25519 AAAA")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to build in, where images and package files are empty ones, made at once."""
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"disk")

    def package(package: object, out: Path, epoch: int, kinds: tuple[str, ...] = ()) -> list[Path]:
        path = out / f"{package.name}_{package.version}-1_amd64.deb"  # type: ignore[attr-defined]
        path.write_text("built")
        return [path]

    monkeypatch.setattr(build, "build_package", package)
    monkeypatch.setattr(build, "index_repository", lambda *words: None)
    monkeypatch.setattr(build, "build_tool_package", lambda options: [])
    monkeypatch.setattr(build, "host_key", lambda folder: KEY)
    monkeypatch.setattr(build, "build_base", lambda *words: Base(tmp_path, "debian12", "b" * 12, "quiet"))
    monkeypatch.setattr(build, "_base_packages", lambda *words: [])
    monkeypatch.setattr(build, "_own_delta", lambda *words: Delta(disk, "d" * 12))
    return tmp_path


def make(bench: Path, name: str, text: str, *, clashes: bool = False) -> list[Path]:
    """Build a description; the packages that came of it."""
    path = bench / f"{name}.toml"
    path.write_text(text)
    options = Options(bench / "dist", bench / "cache", lambda what: None, allow_clashes=clashes)
    return build_file(path, options).packages


@pytest.mark.parametrize(
    "change", ['memory = "96M"', "cpus = 2", 'fqdn = "other.example"', "order = 7", 'console = "vnc"']
)
def test_a_version_that_was_built_stays_what_it_is(bench: Path, change: str) -> None:
    """Whatever is changed, the same number is refused, and nothing of it is written; a higher one is built."""
    base = 'base = "debian12"\n'
    first = make(bench, "web", base)
    before = [path.stat().st_mtime_ns for path in first]
    with pytest.raises(BuildError, match="web 1 was built before with other contents"):
        make(bench, "web", f"{base}{change}\n")
    assert [path.stat().st_mtime_ns for path in first] == before
    assert make(bench, "web", base) == first
    make(bench, "web", f'{base}{change}\nversion = "2"\n')


def test_a_clusters_version_stays_what_it_is(bench: Path) -> None:
    """A guest more, under the same number, is refused as a change of any guest's is."""
    text = 'defaults = {base = "debian12"}\n[guest.one]\n'
    make(bench, "shop", text)
    with pytest.raises(BuildError, match="tawara-cluster-shop 1 was built before"):
        make(bench, "shop", f"{text}[guest.two]\n")


def test_two_clusters_of_one_folder_have_packages_of_their_own(bench: Path) -> None:
    """Guests of the same names, in clusters with prefixes and networks of their own, are no clash."""
    text = 'prefix = "{0}-"\noutside = "none"\n[network.{0}0]\nsubnet = "192.168.{1}.0/24"\n'
    text += '[addresses]\n{0}0 = "192.168.{1}.10-192.168.{1}.19"\n[defaults]\nbase = "debian12"\n[guest.one]\n'
    shop = make(bench, "shop", text.format("shop", 240))
    lab = make(bench, "lab", text.format("lab", 241))
    assert {path.name for path in shop} & {path.name for path in lab} == {
        path.name for path in shop if "-vm-host" in path.name or "-delta-" in path.name
    }


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ('fqdn = "a.example"', 'fqdn = "a.example"', "fqdn a.example"),
        ('[[nic]]\nip = "192.168.231.20"', '[[nic]]\nip = "192.168.231.20"', "ip 192.168.231.20"),
        ('[[nic]]\nmac = "52:54:00:00:00:01"', '[[nic]]\nmac = "52:54:00:00:00:01"', "mac 52:54:00:00:00:01"),
        (
            '[network.lan]\nsubnet = "10.1.0.0/24"\n[[nic]]\nnetwork = "lan"',
            '[network.lan]\nsubnet = "10.2.0.0/24"\n[[nic]]\nnetwork = "lan"',
            "network lan",
        ),
        (
            '[network.lan]\nsubnet = "10.1.0.0/24"\nkind = "host"\n[[nic]]\nnetwork = "lan"',
            '[network.lan]\nsubnet = "10.1.0.0/24"\nkind = "nat"\n[[nic]]\nnetwork = "lan"',
            "network lan",
        ),
        (
            '[network.lan]\nsubnet = "10.1.0.0/16"\n[[nic]]\nnetwork = "lan"',
            '[network.wan]\nsubnet = "10.1.7.0/24"\n[[nic]]\nnetwork = "wan"',
            "subnet 10.1.7",
        ),
    ],
)
def test_what_another_package_of_the_folder_has_is_refused(bench: Path, one: str, other: str, what: str) -> None:
    """The message says what is taken and by which package; nothing is written, unless it was said to be meant."""
    make(bench, "one", f'base = "debian12"\n{one}')
    text = f'base = "debian12"\n{other}'
    with pytest.raises(BuildError, match=f"{what}: tawara-guest-one"):
        make(bench, "other", text)
    assert not list((bench / "dist").glob("tawara-guest-other*"))
    make(bench, "other", text, clashes=True)


def test_guests_of_one_network_are_no_clash(bench: Path) -> None:
    """Two packages may have the same network, when they say the same of it."""
    text = 'base = "debian12"\n[network.lan]\nsubnet = "10.1.0.0/24"\n[[nic]]\nnetwork = "lan"\nip = "10.1.0.{0}"\n'
    make(bench, "one", text.format(20))
    make(bench, "two", text.format(21))


def test_a_package_that_is_gone_from_the_folder_claims_nothing(bench: Path) -> None:
    """Its files deleted, what it claimed is free."""
    for path in make(bench, "one", 'base = "debian12"\nfqdn = "a.example"'):
        path.unlink()
    make(bench, "other", 'base = "debian12"\nfqdn = "a.example"')


def test_an_older_record_is_understood(tmp_path: Path) -> None:
    """Lines of `PACKAGE=VERSION DELTA`: the same delta may be built again, another not."""
    (tmp_path / ".built").write_text("tawara-guest-web=1 dddddddddddd\n")
    with pytest.raises(BuildError):
        Register(tmp_path).add("tawara-guest-web", "1", "new", {}, delta="e" * 12)
    register = Register(tmp_path)
    register.add("tawara-guest-web", "1", "new", {}, delta="d" * 12)
    register.save()
    assert json.loads((tmp_path / ".built").read_text())["tawara-guest-web"]["versions"] == {"1": "new"}
