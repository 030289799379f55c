"""Packages built once for all tests, and hosts to install them on."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.vm.build import Built, Options, build_epoch, build_file

_HERE = Path(__file__).parent


def _load(name: str) -> object:
    """Load a module of this directory: importlib mode has no package to import it from."""
    spec = importlib.util.spec_from_file_location(name, _HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from tests.vm.machine import Machine, why_not
else:
    _machine = _load("machine")
    Machine, why_not = _machine.Machine, _machine.why_not
    _load("foreign_disk")
    _load("foreign_hypervisor")
    _load("ordinary_user")


@dataclass
class Workshop:
    """Where the tests' packages are built, with one cache and one repository."""

    folder: Path
    key: Path
    cache: Path
    """Bases; TAWARA_TEST_VM_CACHE names one that outlives the run."""
    built: dict[str, Built] = field(default_factory=dict)

    @property
    def dist(self) -> Path:
        """The repository."""
        return self.folder / "dist"

    def build(self, name: str, text: str, *, keyed: bool = True) -> Built:
        """Build from this description; a guest's gets the test's key."""
        path = self.folder / f"{name}.toml"
        public = self.key.with_suffix(".pub").read_text().strip()
        path.write_text(f'authorized_keys = ["{public}"]\n{text}' if keyed else text)
        # Its packages are for several hosts, and some are to be refused where another one is.
        built = build_file(path, Options(self.dist, self.cache, _silent, build_epoch(), allow_clashes=True))
        self.built[name] = built
        return built


def _silent(what: str) -> None:
    """Report no progress."""


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("workshop")
    key = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    return Workshop(
        folder, key, Path(os.environ.get("TAWARA_TEST_VM_CACHE") or _run_folder(tmp_path_factory) / "cache")
    )


def _run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory shared by all of pytest's processes, so that a base is built once for all of them."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def _host(workshop: Workshop, *, systemd: bool) -> Iterator[Machine]:
    if reason := why_not():
        pytest.skip(reason)
    workshop.dist.mkdir(exist_ok=True)
    with Machine(workshop.folder, systemd=systemd) as machine:
        machine.start_libvirt()
        machine.shell(
            f"mkdir -p -m 700 /root/.ssh; cp {workshop.key} /root/.ssh/id_ed25519; rm -f /root/.ssh/known_hosts"
        )
        # apt would read the repository as a user of its own, who may not look into pytest's folders.
        machine.shell(
            "rm -f /etc/apt/sources.list.d/*; echo 'APT::Sandbox::User \"root\";' >/etc/apt/apt.conf.d/99test; "
            f"echo 'deb [trusted=yes] file:{workshop.dist} ./' >/etc/apt/sources.list.d/test.list"
        )
        yield machine


@pytest.fixture(scope="module")
def host(workshop: Workshop) -> Iterator[Machine]:
    """A host for all tests of a file, which run in order."""
    yield from _host(workshop, systemd=False)


@pytest.fixture(scope="module")
def systemd_host(workshop: Workshop) -> Iterator[Machine]:
    """The same with systemd as its first process."""
    yield from _host(workshop, systemd=True)
