"""The signed repository in dist/: apt and dnf verify it with its key alone, from a directory and from our own store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tawara.vm.build import Options, build_epoch, build_file
from tawara.vm.repository import repository_files

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

SIGNER = "packages@signed.invalid"
PACKAGE = "tawara-guest-signed"
TAWARA = str(Path(sys.executable).parent / "tawara")


@pytest.fixture(scope="module")
def gpg_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A key ring for the tests, with one signing key."""
    home = tmp_path_factory.mktemp("gpg")
    before = os.environ.get("GNUPGHOME")
    os.environ["GNUPGHOME"] = str(home)
    make = ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", SIGNER, "ed25519", "sign", "never"]
    subprocess.run(make, check=True)
    yield home
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=True)
    del os.environ["GNUPGHOME"]
    if before is not None:
        os.environ["GNUPGHOME"] = before


@pytest.fixture(scope="module")
def signed(workshop: Workshop, gpg_home: Path) -> Path:
    """A signed repository that holds one guest."""
    description = workshop.folder / "signed.toml"
    description.write_text('fqdn = "signed.example"\nmemory = "96M"\n')
    out = workshop.folder / "signed"
    build_file(description, Options(out, workshop.cache, lambda what: None, build_epoch(), signing_key=SIGNER))
    return out


def apt_update(host: Machine, repository: Path) -> subprocess.CompletedProcess[str]:
    """Let apt read the repository, verified only with the key in it."""
    source = f"deb [signed-by={repository}/key.asc] file:{repository} ./"
    host.shell(f"rm -rf /var/lib/apt/lists/*; echo '{source}' >/etc/apt/sources.list.d/test.list")
    return host.run("apt-get", "-q", "update", check=False)


def dnf(repository: str, key: str) -> list[str]:
    """dnf with one repository, by its URL, verified with the key at this URL."""
    options = ("repo_gpgcheck=1", "gpgcheck=0", f"gpgkey={key}")
    words = ["dnf", "-y", "--refresh", f"--repofrompath=signed,{repository}", "--repo=signed", "--releasever=12"]
    return words + [f"--setopt=signed.{option}" for option in options]


def dnf_lists(host: Machine, repository: Path) -> bool:
    """Whether dnf can verify the repository with its key, and find the guest in it."""
    words = dnf(f"file://{repository}", f"file://{repository}/key.asc")
    done = host.run(*words, "list", "--available", PACKAGE, check=False)
    return done.returncode == 0 and PACKAGE in done.stdout


def test_apt_and_dnf_verify_the_signed_repository(host: Machine, signed: Path) -> None:
    """With only the key, both read the indexes and find the package; apt gives no warning."""
    done = apt_update(host, signed)
    assert (done.returncode, done.stderr) == (0, "")
    said = host.shell(f"cd /tmp && apt-get -q download {PACKAGE} 2>&1")
    assert "unauthenticated" not in said.lower()
    assert dnf_lists(host, signed)


def test_signing_again_gives_the_same_bytes(workshop: Workshop, signed: Path, gpg_home: Path) -> None:
    """Signatures are as reproducible as the signed files, though the key is younger than the packages' time."""
    names = ("InRelease", "Release.gpg", "repodata/repomd.xml.asc", "key.asc")
    before = [(signed / name).read_bytes() for name in names]
    options = Options(signed, workshop.cache, lambda what: None, build_epoch(), signing_key=SIGNER)
    build_file(workshop.folder / "signed.toml", options)
    assert [(signed / name).read_bytes() for name in names] == before


@pytest.fixture(scope="module")
def store(host: Machine, workshop: Workshop) -> Iterator[Store]:
    """A store that runs on the host, `tawara up` with nginx; its domain is `packages`."""
    store = Store(host, workshop.folder / "store")
    with store.running():
        store.tawara("domain", "add", "packages")
        yield store


class Store:
    """`tawara up` inside a host, with the ports that it has by default."""

    def __init__(self, host: Machine, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.url = "http://127.0.0.1:7080/packages/stable"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it until the block ends."""
        words = self.host.command(TAWARA, "up", str(self.folder), "--json")
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "ready"
            yield
        finally:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGINT)  # nsenter passes no signals on
            process.wait(60)
            assert process.stdout is not None
            process.stdout.close()

    def tawara(self, *words: str) -> str:
        """Run a command of Tawara's on the host."""
        return self.host.run(TAWARA, *words).stdout


def published(store: Store, repository: Path) -> list[str]:
    """Publish the repository; which of its files were stored, in order."""
    lines = store.tawara("vm", "publish", str(repository), "packages/stable", "--json").splitlines()
    outcomes = [json.loads(line) for line in lines]
    return [each["key"].removeprefix("stable/") for each in outcomes if each["outcome"] == "stored"]


def test_publishing_stores_packages_first_and_only_what_changed(store: Store, signed: Path) -> None:
    """The first run stores all files, indexes last; the next one only what no index vouches for."""
    first = published(store, signed)
    assert first[0].endswith((".deb", ".rpm"))
    assert set(first[-3:]) == {"InRelease", "Release", "repodata/repomd.xml"}
    assert set(first) == set(repository_files(signed))
    again = published(store, signed)
    assert set(again) == {
        "InRelease",
        "Release",
        "Release.gpg",
        "key.asc",
        "repodata/repomd.xml",
        "repodata/repomd.xml.asc",
    }


def test_apt_installs_from_the_gateway(host: Machine, store: Store) -> None:
    """By the key alone, without a warning, with indexes asked for by their hash: and the guest runs."""
    host.shell(f"curl -fsS {store.url}/key.asc >/etc/apt/keyrings/tawara.asc")
    source = f"deb [signed-by=/etc/apt/keyrings/tawara.asc] {store.url} ./"
    host.shell(f"rm -rf /var/lib/apt/lists/*; echo '{source}' >/etc/apt/sources.list.d/test.list")
    done = host.run("apt-get", "-q", "-o", "Debug::Acquire::http=true", "update")
    assert "/packages/stable/./by-hash/SHA256/" in done.stdout + done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith(("W:", "E:"))]
    host.run("apt-get", "-y", "-q", "install", PACKAGE)
    assert host.run("virsh", "domstate", "signed").stdout.strip() == "running"


def test_the_command_comes_as_a_package(host: Machine) -> None:
    """`tawara vm` works on a host that has the package `tawara-vm` and no checkout, and leaves nothing behind."""
    tool = ("env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "tawara")
    host.run("apt-get", "-y", "-q", "install", "tawara-vm")
    (guest,) = json.loads(host.run(*tool, "vm", "list", "--json").stdout)
    assert (guest["name"], guest["state"], guest["origin"]) == ("signed", "running", PACKAGE)
    host.run(*tool, "vm", "set", "signed", "memory=128M")
    host.run(*tool, "vm", "create", "second", "--from", "signed")
    assert host.run("virsh", "domstate", "second").stdout.strip() == "running"
    host.run(*tool, "vm", "stop", "second", "--force")
    host.run(*tool, "vm", "rm", "second")
    assert "pip install tawara" in host.run(*tool, "put", "a", "b/c", check=False).stderr
    host.run("apt-get", "-y", "-q", "purge", "tawara-vm")
    assert host.shell("ls -d /usr/lib/tawara-vm/site /usr/bin/tawara 2>/dev/null", check=False) == ""
    host.run("virsh", "destroy", "signed")  # it is still booting, and would be given time to shut down
    host.run("apt-get", "-y", "-q", "purge", PACKAGE)


def test_dnf_installs_from_the_gateway(host: Machine, store: Store) -> None:
    """The same by dnf, which checks the signature of the index."""
    done = host.run(*dnf(store.url, f"{store.url}/key.asc"), "install", PACKAGE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.run("virsh", "domstate", "signed").stdout.strip() == "running"
    host.run("virsh", "destroy", "signed")
    host.run("rpm", "-e", PACKAGE)


def test_the_gateway_answers_what_apt_asks(host: Machine, store: Store, signed: Path) -> None:
    """`/./` in the middle of an address is left out, as every web server does."""
    found = host.run("curl", "-fsS", "--path-as-is", f"{store.url}/./Packages").stdout
    assert found == (signed / "Packages").read_text()


def test_deleting_takes_what_the_repository_has_no_more(store: Store, signed: Path) -> None:
    """With --delete, keys below the prefix that the repository does not have go, and no others."""
    for key in ("stable/old_1-1_amd64.deb", "stable-not/other"):
        store.tawara("put", str(signed / "Release"), f"packages/{key}")
    store.tawara("vm", "publish", str(signed), "packages/stable/", "--delete")
    kept = store.tawara("ls", "packages").splitlines()
    assert {key.removeprefix("packages/") for key in kept} == {
        f"stable/{name}" for name in repository_files(signed)
    } | {"stable-not/other"}


def test_a_changed_index_is_refused(host: Machine, signed: Path) -> None:
    """With one changed word in each index, neither apt nor dnf accepts it."""
    for name in ("InRelease", "repodata/repomd.xml"):
        path = signed / name
        text = path.read_text()
        path.write_text(text.replace("Origin: Tawara", "Origin: Tanuki").replace("</repomd>", "<!-- x --></repomd>"))
        assert path.read_text() != text
    (signed / "Release.gpg").unlink()
    done = apt_update(host, signed)
    assert "BADSIG" in done.stdout + done.stderr
    assert not dnf_lists(host, signed)


def test_both_kinds_are_inspected_alike(signed: Path) -> None:
    """`inspect` shows the same of a .deb and an .rpm: its name, and what it holds, claims and runs."""

    def inspect(package: Path) -> dict[str, Any]:
        words = [sys.executable, "-m", "tawara", "vm", "inspect", str(package)]
        found: dict[str, Any] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        return found

    deb, rpm = inspect(signed / f"{PACKAGE}_1-1_amd64.deb"), inspect(signed / f"{PACKAGE}-1-1.x86_64.rpm")
    assert deb.keys() == rpm.keys()
    assert (deb["format"], rpm["format"]) == ("deb", "rpm")
    for what in ("name", "version", "release", "summary", "files", "claims"):
        assert deb[what] == rpm[what]
    assert deb["name"] == PACKAGE
    assert "fqdn/signed.example" in deb["claims"]
    # dpkg runs the step once for a transaction, by the support package's trigger; rpm for each package.
    assert any("/usr/lib/tawara-vm/reconcile after-remove" in text for text in deb["scripts"].values())
    assert any("/usr/lib/tawara-vm/reconcile installed" in text for text in rpm["scripts"].values())
    (support,) = signed.glob("tawara-vm-host_*.deb")
    assert "/usr/lib/tawara-vm/reconcile installed" in inspect(support)["scripts"]["postinst"]
