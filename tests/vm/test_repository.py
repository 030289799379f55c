"""The repository in dist/, signed: apt and dnf take it by its key alone, and refuse it when a byte was changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tawara.vm.build import Options, build_epoch, build_file

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

SIGNER = "packages@signed.invalid"
PACKAGE = "tawara-guest-signed"


@pytest.fixture(scope="module")
def gpg_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A key ring of the tests' own, with one key that can sign."""
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
    """A repository of its own that holds one guest, signed."""
    description = workshop.folder / "signed.toml"
    description.write_text('fqdn = "signed.example"\nmemory = "96M"\n')
    out = workshop.folder / "signed"
    build_file(description, Options(out, workshop.cache, lambda what: None, build_epoch(), signing_key=SIGNER))
    return out


def apt_update(host: Machine, repository: Path) -> subprocess.CompletedProcess[str]:
    """Have apt read the repository, which it may believe only by the key beside it."""
    source = f"deb [signed-by={repository}/key.asc] file:{repository} ./"
    host.shell(f"rm -rf /var/lib/apt/lists/*; echo '{source}' >/etc/apt/sources.list.d/test.list")
    return host.run("apt-get", "-q", "update", check=False)


def dnf_lists(host: Machine, repository: Path) -> bool:
    """Does dnf read the repository by its key, and find the guest in it?"""
    options = ("repo_gpgcheck=1", "gpgcheck=0", f"gpgkey=file://{repository}/key.asc")
    words = ["dnf", "-y", "--refresh", f"--repofrompath=signed,file://{repository}", "--repo=signed", "--releasever=12"]
    words += [f"--setopt=signed.{option}" for option in options]
    done = host.run(*words, "list", "--available", PACKAGE, check=False)
    return done.returncode == 0 and PACKAGE in done.stdout


def test_apt_and_dnf_believe_the_signed_repository(host: Machine, signed: Path) -> None:
    """With only the key given, both read the indexes and find the package; apt takes it without a warning."""
    done = apt_update(host, signed)
    assert (done.returncode, done.stderr) == (0, "")
    said = host.shell(f"cd /tmp && apt-get -q download {PACKAGE} 2>&1")
    assert "unauthenticated" not in said.lower()
    assert dnf_lists(host, signed)


def test_signing_again_gives_the_same_bytes(workshop: Workshop, signed: Path, gpg_home: Path) -> None:
    """Signatures are as reproducible as what they sign, though the key is younger than the packages' time."""
    names = ("InRelease", "Release.gpg", "repodata/repomd.xml.asc", "key.asc")
    before = [(signed / name).read_bytes() for name in names]
    options = Options(signed, workshop.cache, lambda what: None, build_epoch(), signing_key=SIGNER)
    build_file(workshop.folder / "signed.toml", options)
    assert [(signed / name).read_bytes() for name in names] == before


def test_a_changed_index_is_refused(host: Machine, signed: Path) -> None:
    """One changed word in each index, and neither apt nor dnf reads it."""
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
