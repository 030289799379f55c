"""A host for the step that package scripts call: a directory as its root, and a fake virsh that records its
commands."""

from __future__ import annotations

import marshal
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tawara.vm
from tawara.vm import host as host_module
from tawara.vm.bases import RECIPES
from tawara.vm.bases.recipe import HostKey
from tawara.vm.definition import Layers, definition_files
from tawara.vm.host import GuestHost
from tawara.vm.spec import Guest
from tawara.vm.spec_read import read_guest
from tests.unit.vm.fake_virsh import client_script

KEY = HostKey("-----BEGIN OPENSSH PRIVATE KEY-----\nnot a key, but in its place\n", "ssh-ed25519 AAAA")
HOST_FILES = Path(tawara.vm.__file__).parent / "host_files"
BASE = "b" * 12
_QEMU_IMG = """#!/bin/sh
case $1 in
    create) shift; while [ $# -gt 2 ]; do shift; done; echo disk >"$1" ;;
    info) echo "    \"virtual-size\": $(tail -n 1 "$TAWARA_VM_ROOT/disk-size" 2>&- || echo 5368709120)," ;;
    resize) echo "$4" >"$TAWARA_VM_ROOT/disk-size" ;;
    convert) while [ $# -gt 2 ]; do shift; done; cp "$1" "$2" ;;
esac
"""


class StepHost:
    """Files below `root` are the host's; `libvirt` is the state of the fake virsh."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "var/lib/tawara-vm"
        self.hosts = root / "etc/hosts"
        for folder in ("bin", "etc/tawara-vm", "run", "var/lib/tawara-vm/guests"):
            (root / folder).mkdir(parents=True)
        (root / "run/tawara-vm").mkdir()
        (root / "run/tawara-vm/accelerator").write_text("qemu\n")
        self.hosts.write_text("127.0.0.1 localhost\n")
        self._program("virsh", client_script(self._file))
        self._program("qemu-img", _QEMU_IMG)
        self._program("dhcp_release", "#!/bin/sh\n")
        self._keep({"domains": {}, "networks": {}})
        (self.state / "bases" / BASE).mkdir(parents=True)
        for name in ("disk.qcow2", "kernel", "initrd"):
            (self.state / "bases" / BASE / name).write_text(name)
        self.step = HOST_FILES / "reconcile"
        self.configure("stop_seconds=1")

    @property
    def _file(self) -> Path:
        return self.root / "virsh"

    def _program(self, name: str, text: str) -> None:
        (self.root / "bin" / name).write_text(text)
        (self.root / "bin" / name).chmod(0o755)

    def configure(self, *lines: str) -> None:
        """Write /etc/tawara-vm/host.conf."""
        (self.root / "etc/tawara-vm/host.conf").write_text("".join(f"{line}\n" for line in lines))

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which the step (and the command line) use this host."""
        own = {"TAWARA_VM_ROOT": str(self.root), "TAWARA_VM_LIB": str(HOST_FILES / "lib")}
        return {**os.environ, **own, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the step."""
        command = ["sh", str(self.step), *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell with the step's functions."""
        text = (HOST_FILES / "reconcile").read_text().replace('main "$@"', script)
        return subprocess.run(["sh", "-c", text], env=self.environment, capture_output=True, text=True)

    def place(self, text: str, name: str = "web", *, delta: str = "d" * 12, where: str = "guests") -> Guest:
        """Put a guest's definition where its package puts it."""
        guest = read_guest(f'base = "debian12"\n{text}', f"{name}.toml", name)
        return self.put(guest, delta=delta, where=where)

    def put(self, guest: Guest, *, delta: str = "d" * 12, where: str = "guests") -> Guest:
        """The same for a guest that was parsed already."""
        folder = self.state / where / guest.name
        for path, content in definition_files(guest, Layers(delta, BASE), RECIPES["debian12"], KEY, 0).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        for old in (folder / "networks").iterdir():
            if old.stem not in {nic.network.libvirt_name for nic in guest.nics}:
                old.unlink()
        (folder / "disk.qcow2").write_text(delta)
        return guest

    def take_away(self, name: str) -> None:
        """Remove a definition, as removing its package does."""
        folder = self.state / "guests" / name
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        folder.rmdir()

    @property
    def libvirt(self) -> dict[str, Any]:
        """The complete state of the fake."""
        known: dict[str, Any] = marshal.loads(self._file.read_bytes())
        return known

    def _keep(self, known: dict[str, Any]) -> None:
        self._file.write_bytes(marshal.dumps(known))

    def change(self, name: str = "web", /, **facts: object) -> None:
        """Change the fake's state of a domain."""
        known = self.libvirt
        known["domains"][name].update(facts)
        self._keep(known)

    def tell(self, **facts: object) -> None:
        """Change the fake's general state."""
        self._keep(self.libvirt | facts)

    def domain(self, name: str = "web") -> dict[str, Any] | None:
        """A domain, None if it does not exist."""
        found: dict[str, Any] | None = self.libvirt["domains"].get(name)
        return found

    def instance(self, path: str, name: str = "web") -> Path:
        """A path in an instance's directory."""
        return self.state / "instances" / name / path

    def layers(self, name: str = "web") -> str:
        """The backing files of its system disk."""
        return self.instance("system/layers", name).read_text().strip()


@pytest.fixture(scope="session")
def make_step_host() -> type[StepHost]:
    return StepHost


@pytest.fixture
def step_host(tmp_path: Path) -> StepHost:
    return StepHost(tmp_path / "host")


@pytest.fixture
def command_line(step_host: StepHost, monkeypatch: pytest.MonkeyPatch) -> Callable[[], GuestHost]:
    """The command line's view of the host."""
    for name, value in step_host.environment.items():
        monkeypatch.setenv(name, value)
    step = step_host.root / "bin/step"
    step.write_text(f'#!/bin/sh\nexec sh {step_host.step} "$@"\n')
    step.chmod(0o755)
    monkeypatch.setattr(host_module, "RECONCILE", str(step))
    monkeypatch.setattr(host_module, "_LOCK", step_host.root / "run/tawara-vm/lock")
    return lambda: GuestHost(step_host.state)
