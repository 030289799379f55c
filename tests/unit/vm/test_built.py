"""The record of a directory of packages: a version never changes, and no two packages claim the same resource."""

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
    """A directory to build in, with empty images and package files, which are created quickly."""
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
    """Build a description; return the packages."""
    path = bench / f"{name}.toml"
    path.write_text(text)
    options = Options(bench / "dist", bench / "cache", lambda what: None, allow_clashes=clashes)
    return build_file(path, options).packages


@pytest.mark.parametrize(
    "change", ['memory = "96M"', "cpus = 2", 'fqdn = "other.example"', "order = 7", 'console = "vnc"']
)
def test_a_built_version_never_changes(bench: Path, change: str) -> None:
    """Any change under the same version is refused, and nothing is written; a higher version is built."""
    base = 'base = "debian12"\n'
    first = make(bench, "web", base)
    before = [path.stat().st_mtime_ns for path in first]
    with pytest.raises(BuildError, match="web 1 was built before with other contents"):
        make(bench, "web", f"{base}{change}\n")
    assert [path.stat().st_mtime_ns for path in first] == before
    assert make(bench, "web", base) == first
    make(bench, "web", f'{base}{change}\nversion = "2"\n')


def test_a_clusters_version_never_changes(bench: Path) -> None:
    """An additional guest under the same version is refused like a change of any guest."""
    text = 'defaults = {base = "debian12"}\n[guest.one]\n'
    make(bench, "shop", text)
    with pytest.raises(BuildError, match="tawara-cluster-shop 1 was built before"):
        make(bench, "shop", f"{text}[guest.two]\n")


def test_two_clusters_in_one_directory(bench: Path) -> None:
    """Guests of the same names, in clusters with their own prefixes and networks, do not conflict."""
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
def test_a_conflict_with_another_package_is_refused(bench: Path, one: str, other: str, what: str) -> None:
    """The message names the resource and the package that has it; nothing is written, unless conflicts are allowed."""
    make(bench, "one", f'base = "debian12"\n{one}')
    text = f'base = "debian12"\n{other}'
    with pytest.raises(BuildError, match=f"{what}: tawara-guest-one"):
        make(bench, "other", text)
    assert not list((bench / "dist").glob("tawara-guest-other*"))
    make(bench, "other", text, clashes=True)


def test_guests_of_one_network_do_not_conflict(bench: Path) -> None:
    """Two packages may have the same network if they define it equally."""
    text = 'base = "debian12"\n[network.lan]\nsubnet = "10.1.0.0/24"\n[[nic]]\nnetwork = "lan"\nip = "10.1.0.{0}"\n'
    make(bench, "one", text.format(20))
    make(bench, "two", text.format(21))


def test_a_deleted_package_claims_nothing(bench: Path) -> None:
    """After the deletion of a package's files its claims are free."""
    for path in make(bench, "one", 'base = "debian12"\nfqdn = "a.example"'):
        path.unlink()
    make(bench, "other", 'base = "debian12"\nfqdn = "a.example"')


def test_an_older_record_is_parsed(tmp_path: Path) -> None:
    """Lines of `PACKAGE=VERSION DELTA`: the same delta may be built again, another may not."""
    (tmp_path / ".built").write_text("tawara-guest-web=1 dddddddddddd\n")
    with pytest.raises(BuildError):
        Register(tmp_path).add("tawara-guest-web", "1", "new", {}, delta="e" * 12)
    register = Register(tmp_path)
    register.add("tawara-guest-web", "1", "new", {}, delta="d" * 12)
    register.save()
    assert json.loads((tmp_path / ".built").read_text())["tawara-guest-web"]["versions"] == {"1": "new"}
