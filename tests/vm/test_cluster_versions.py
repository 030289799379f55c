"""Any sequence of a cluster's versions installs, by apt and by dnf, on separate file trees without scripts. The package
managers' decisions are real: the packages are built as usual, except for images of a few bytes. TAWARA_TEST_SEQUENCES
sets how many sequences are tried."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tawara.vm import build, package_manifest, packager
from tawara.vm.base_image import Base
from tawara.vm.bases.recipe import HostKey
from tawara.vm.build import Options, build_file
from tawara.vm.delta import Delta
from tawara.vm.package_manifest import Package
from tawara.vm.template import describe_cluster

KEY = HostKey("-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key, but in its place\n", "ssh-ed25519 AAAA")
STATE = "var/lib/tawara-vm"
SEQUENCES = int(os.environ.get("TAWARA_TEST_SEQUENCES", "2"))
FIRST = int(os.environ.get("TAWARA_TEST_FIRST_SEQUENCE", "0"))
"""The seed of the first sequence; each sequence has its own, so that several processes can share a long run."""
NAMES = [f"g{number}" for number in range(6)]
pytestmark = [pytest.mark.vm, pytest.mark.timeout(900 + 60 * SEQUENCES)]


class Site:
    """A repository and the file tree of a host that installs from it."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.kind = kind
        self.dist = folder / "dist"
        self.root = folder / "root"
        self.root.mkdir()
        if kind == "deb":
            for name in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "var/lib/apt/lists/partial", "etc/apt"):
                (self.root / name).mkdir(parents=True)
            for name in ("archives/partial",):
                (self.root / "var/cache/apt" / name).mkdir(parents=True)
            (self.root / "var/lib/dpkg/status").touch()
            (self.root / "etc/apt/sources.list").write_text(f"deb [trusted=yes] file:{self.dist} ./\n")

    def build(self, name: str, text: str, *, clashes: bool = True) -> None:
        """Build a description of this site, which may conflict with others by default."""
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        options = Options(
            self.dist, self.folder / "cache", lambda what: None, kinds=(self.kind,), allow_clashes=clashes
        )
        build_file(path, options)

    def forget(self) -> None:
        """Empty the repository, so that a long run's indexes do not grow, and version numbers begin again."""
        for path in self.dist.glob(f"*.{self.kind}"):
            path.unlink()
        (self.dist / ".built").unlink()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run apt-get or dnf on the tree."""
        if self.kind == "deb":
            options = {
                "Dir::State": f"{self.root}/var/lib/apt",
                "Dir::State::status": f"{self.root}/var/lib/dpkg/status",
                "Dir::Cache": f"{self.root}/var/cache/apt",
                "Dir::Etc": f"{self.root}/etc/apt",
                "APT::Sandbox::User": "root",
                "DPkg::Lock::Timeout": "60",
            }
            command = ["apt-get", "-y", "-q", *(f"-o{name}={value}" for name, value in options.items())]
            command += [f"-oDPkg::Options::=--{option}" for option in (f"root={self.root}", "force-script-chrootless")]
            command += ["-oDPkg::Options::=--log=/dev/null", "-oDir::Log=" + str(self.root)]
        else:
            command = ["dnf", "-y", f"--installroot={self.root}", "--releasever=12", "--refresh", "--nogpgcheck"]
            command += [f"--repofrompath=site,file://{self.dist}", "--repo=site", "--setopt=tsflags=noscripts"]
            command += [f"--setopt=cachedir={self.folder}/dnf", "--setopt=install_weak_deps=False"]
        return subprocess.run([*command, *words], capture_output=True, text=True)

    def must(self, *words: str) -> None:
        """The same; it has to succeed."""
        if self.kind == "deb":
            assert self.run("update").returncode == 0
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr

    def guests(self) -> set[str]:
        """The installed guests."""
        folder = self.root / STATE / "guests"
        return {path.parent.name for path in folder.glob("*/facts")}

    def is_sound(self) -> bool:
        """Whether the package manager is in a consistent state."""
        if self.kind == "deb":
            states = ["dpkg-query", f"--admindir={self.root}/var/lib/dpkg", "-W", "-f", "${db:Status-Abbrev}\n"]
            said = subprocess.run(states, capture_output=True, text=True, check=True).stdout
            return self.run("check").returncode == 0 and {line.strip() for line in said.splitlines()} <= {"ii", "rc"}
        return self.run("check").returncode == 0


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Site]:
    """Sites whose images have a few bytes, and whose packages have no scripts and no dependencies on Debian's."""
    disk = tmp_path / "disk.qcow2"
    disk.write_bytes(b"disk")
    real = packager.build_package

    def bare(package: Package, out: Path, epoch: int, kinds: tuple[str, ...]) -> list[Path]:
        package = replace(package, scripts={}, deb_depends=(), rpm_recommends=(), deb_trigger="", compression="gzip")
        return real(package, out, epoch, kinds)

    monkeypatch.setattr(build, "build_tool_package", lambda options: [])
    monkeypatch.setattr(build, "build_package", bare)
    monkeypatch.setattr(build, "host_key", lambda folder: KEY)
    monkeypatch.setattr(build, "build_base", lambda *words: Base(tmp_path, "debian12", "b" * 12, "quiet"))
    monkeypatch.setattr(build, "_own_delta", lambda guest, *words: Delta(disk, f"{guest.memory >> 20:012d}"))

    def base_packages(base: Base, summary: str, options: Options) -> list[Path]:
        package = package_manifest.base_package(base.name, base.digest, "1", summary, str(tmp_path), ("disk.qcow2",))
        return bare(package, options.out, options.epoch, options.kinds)

    monkeypatch.setattr(build, "_base_packages", base_packages)

    def make(kind: str) -> Site:
        folder = tmp_path / kind
        folder.mkdir()
        return Site(folder, kind)

    return make


def described(dice: random.Random, version: int, names: list[str]) -> str:
    """A version of a cluster: guests in any order, some with their own addresses, cards or memory."""
    text = f'version = "{version}"\n[network.shop0]\nsubnet = "192.168.{dice.choice((240, 250))}.0/24"\n'
    text += '[defaults]\nbase = "debian12"\n'
    ends = dice.sample(range(10, 16), len(names))
    for name, end in zip(names, ends, strict=True):
        text += f"[guest.{name}]\n"
        if dice.random() < 0.3:
            text += f'memory = "{dice.choice((96, 128))}M"\n'
        if dice.random() < 0.5:  # addresses of one's own are given from one to the other and back
            text += f'[[guest.{name}.nic]]\nnetwork = "nat1"\nip = "192.168.232.{end}"\n'
    return text


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_any_sequence_of_versions_installs(site: Callable[[str], Site], kind: str) -> None:
    """Guests are added, removed, restored and exchange addresses; each version installs over the last, removed guests
    are gone, and the package manager stays consistent; in the end everything can be removed."""
    where = site(kind)
    for number in range(FIRST, FIRST + SEQUENCES):
        dice = random.Random(number)
        for version in range(1, dice.randint(2, 4) + 1):
            names = dice.sample(NAMES, dice.randint(1, len(NAMES)))
            where.build("shop", described(dice, version, names))
            where.must("install" if version == 1 or kind == "deb" else "upgrade", "tawara-cluster-shop")
            assert where.guests() == set(names), f"sequence {number}, version {version}"
        assert where.is_sound(), f"sequence {number}"
        where.must("remove", "tawara-cluster-shop")
        assert where.guests() == set()
        where.forget()


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_a_network_is_claimed_by_its_definition(site: Callable[[str], Site], kind: str) -> None:
    """Guests may share a network; a different network of the same name or subnet is refused completely, in either
    order, and a changed network is accepted when its only guest has it."""
    where = site(kind)
    text = 'version = "{version}"\nbase = "debian12"\n[network.{net}]\nsubnet = "{subnet}"\n'
    text += '[[nic]]\nnetwork = "{net}"\n'
    for name, net, subnet in (
        ("one", "lan", "10.1.0.0/24"),
        ("two", "lan", "10.1.0.0/24"),
        ("bad", "lan", "10.2.0.0/24"),
        ("worse", "wan", "10.1.0.0/24"),
        ("wide", "wide", "10.1.0.0/16"),
    ):
        where.build(name, text.format(version=1, net=net, subnet=subnet))
    where.must("install", "tawara-guest-one", "tawara-guest-two")
    for gone in ((), ("two",), ("one",)):
        for name in gone:
            where.must("remove", f"tawara-guest-{name}")
        for name in ("bad", "worse", "wide"):
            done = where.run("install", f"tawara-guest-{name}")
            assert done.returncode != 0
            assert any(f"claims/{what}" in done.stdout + done.stderr for what in ("network/lan", "subnet/10.1.0"))
            assert where.is_sound()
        where.must("install", "tawara-guest-one", "tawara-guest-two")
    where.build("two", text.format(version=9, net="lan", subnet="10.3.0.0/24"))
    where.must("update") if kind == "deb" else None
    assert where.run("install", "tawara-guest-two=9-1" if kind == "deb" else "tawara-guest-two-9").returncode != 0
    where.must("remove", "tawara-guest-one")
    where.must("install", "tawara-guest-two=9-1" if kind == "deb" else "tawara-guest-two-9")
    assert where.is_sound()


@pytest.mark.parametrize("kind", ["deb", "rpm"])
def test_two_clusters_of_init_are_installed_side_by_side(site: Callable[[str], Site], kind: str) -> None:
    """Two clusters written by `init --cluster` are two packages that share no name, address or network, and are removed
    separately."""
    where = site(kind)
    shop = describe_cluster("shop").replace('"tiny"', '"debian12"')
    lab = describe_cluster("lab", used=[IPv4Network("192.168.240.0/24")]).replace('"tiny"', '"debian12"')
    where.build("shop", shop, clashes=False)
    where.build("lab", lab, clashes=False)
    where.must("install", "tawara-cluster-shop", "tawara-cluster-lab")
    assert where.guests() == {f"{cluster}-{name}" for cluster in ("shop", "lab") for name in ("one", "two", "three")}
    where.must("remove", "tawara-cluster-shop")
    assert where.guests() == {"lab-one", "lab-two", "lab-three"}
    assert where.is_sound()
