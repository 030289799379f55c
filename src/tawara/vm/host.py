"""This machine's instances: what packages and `create` want, what libvirt says, and the step that joins them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from tawara.vm import guest_json
from tawara.vm.bases import RECIPES
from tawara.vm.bases.recipe import EPOCH
from tawara.vm.definition import STATE, Layers, claims, definition_files
from tawara.vm.errors import HostError, NoSuchInstanceError, TakenError
from tawara.vm.foreign.instance import own_delta
from tawara.vm.host_keys import host_key
from tawara.vm.instance import clone, refuse_taken
from tawara.vm.package_manifest import RECONCILE
from tawara.vm.run import require
from tawara.vm.spec import Guest

SHUTDOWN_SECONDS = 30


@dataclass(frozen=True)
class Instance:
    """One guest of this machine."""

    guest: Guest
    origin: str
    """The package that owns it, or `created`."""
    state: str
    delta: str
    newest: bool
    """Does it stand on its package's newest delta?"""
    error: str

    def as_json(self) -> dict[str, object]:
        """The instance for `--json`."""
        return {
            "name": self.guest.name,
            "fqdn": self.guest.fqdn,
            "state": self.state,
            "origin": self.origin,
            "delta": self.delta,
            "newest": self.newest,
            "addresses": {nic.network.name: str(nic.ip) for nic in self.guest.nics},
            "error": self.error,
        }


class Host:
    """This machine. `state` is where packages and instances live; another one is for tests."""

    def __init__(self, state: Path = Path(STATE)) -> None:
        self.state = state

    def names(self) -> list[str]:
        """Every guest that is wanted here."""
        return sorted({path.parent.name for place in ("guests", "created") for path in self._definitions(place)})

    def instance(self, name: str) -> Instance:
        """One instance; raises NoSuchInstanceError."""
        folder = self._definition(name)
        guest = guest_json.read((folder / "guest.json").read_bytes())
        facts = _facts(folder / "facts")
        layers = self._text(name, "system/layers").split() or ["", ""]
        return Instance(
            guest=guest,
            origin=guest.package if folder.parent.name == "guests" else "created",
            state=self.domain_state(name),
            delta=layers[0],
            newest=layers == [facts["DELTA"], facts["BASE"]],
            error=self._text(name, "error").strip(),
        )

    def instances(self) -> list[Instance]:
        """All instances, by name."""
        return [self.instance(name) for name in self.names()]

    def domain_state(self, name: str) -> str:
        """libvirt's word for the domain's state; `absent` when it is not defined."""
        done = self._virsh("domstate", name, check=False)
        return done.stdout.strip() if done.returncode == 0 else "absent"

    def create(
        self, name: str, template: str, fqdn: str | None = None, ips: Mapping[str, IPv4Address] | None = None
    ) -> Guest:
        """Another instance of an installed guest, with its own identity and an overlay of its own; started."""
        source = self._definition(template)
        guest = clone(guest_json.read((source / "guest.json").read_bytes()), name, fqdn, ips)
        if name in self.names():
            raise TakenError(f"there is a guest {name} already", hint="`tawara vm list` shows those that there are.")
        if (self.state / "instances" / name).exists():
            remedy = f"Install its package again, or take the data away: {RECONCILE} purge {name}"
            raise TakenError(f"the data of a guest {name} that was removed is still here", hint=remedy)
        refuse_taken(guest, self.taken())
        target = self.state / "created" / name
        draft = self.state / "created" / f".{name}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, mode=0o755)
        facts = _facts(source / "facts")
        key = host_key(draft / "keys")
        disk = self._delta(source, facts["DELTA"])
        if guest.image is not None and guest.image.identity == "ours":
            base = self.state / "images" / facts["BASE"] / "disk.qcow2"
            facts["DELTA"] = own_delta(guest, key, base, disk, draft / "disk.qcow2")
        else:
            os.link(disk, draft / "disk.qcow2")
        layers = Layers(facts["DELTA"], facts["BASE"])
        recipe = RECIPES[guest.base] if guest.image is None else None
        for path, content in definition_files(guest, layers, recipe, key, EPOCH).items():
            (draft / path).parent.mkdir(exist_ok=True)
            (draft / path).touch(mode=0o600 if path == "identity.tar" else 0o644)
            (draft / path).write_bytes(content)
        draft.rename(target)
        self.reconcile()
        self._raise_error(name)
        return guest

    def remove(self, name: str) -> None:
        """Take a created instance away, data and all; a package's is the package manager's to remove."""
        folder = self._definition(name)
        if folder.parent.name == "guests":
            package = guest_json.read((folder / "guest.json").read_bytes()).package
            raise TakenError(f"{name} belongs to the package {package}", hint=f"apt purge {package} (or dnf remove)")
        gone = folder.with_name(f".{name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)
        self.reconcile("purge", name)

    def start(self, name: str) -> None:
        """Start an instance; one that runs is left alone."""
        self._definition(name)
        if self.domain_state(name) == "absent":
            self.reconcile()
            self._raise_error(name)
        elif self.domain_state(name) != "running":
            self._virsh("start", name)

    def stop(self, name: str, *, force: bool = False) -> None:
        """Shut an instance down; with force, or when it does not obey in time, switch it off."""
        self._definition(name)
        if self.domain_state(name) in ("shut off", "absent"):
            return
        if not force:
            self._virsh("shutdown", name)
            deadline = time.monotonic() + SHUTDOWN_SECONDS
            while time.monotonic() < deadline:
                if self.domain_state(name) == "shut off":
                    return
                time.sleep(0.2)
        self._virsh("destroy", name)

    def snapshot(self, name: str, snapshot: str) -> None:
        """Keep the instance's disks (and memory, when it runs) as they are now."""
        self._definition(name)
        self._virsh("snapshot-create-as", name, snapshot)

    def restore(self, name: str, snapshot: str) -> None:
        """Put the instance back to a snapshot."""
        self._definition(name)
        self._virsh("snapshot-revert", name, snapshot)

    def snapshots(self, name: str) -> list[str]:
        """The instance's snapshots."""
        self._definition(name)
        return self._virsh("snapshot-list", name, "--name").stdout.split()

    def upgrade(self, name: str, *, back: bool = False) -> None:
        """Move the instance to its package's newest delta, or back to the one before; its data disk stays."""
        self._definition(name)
        self.reconcile("back" if back else "upgrade", name)
        self._raise_error(name)

    def taken(self) -> dict[str, str]:
        """Every claim on this machine and whose it is."""
        taken = {}
        for path in (self.state / "claims").glob("*/*"):
            taken[f"{path.parent.name}/{path.name}"] = path.read_text().strip()
        for path in self._definitions("created"):
            guest = guest_json.read((path.parent / "guest.json").read_bytes())
            taken |= dict.fromkeys(claims(guest), f"the instance {guest.name}")
        return taken

    def reconcile(self, *words: str) -> None:
        """Run the host's own reconcile step; raises HostError with its words when it fails."""
        if not Path(RECONCILE).exists():
            raise HostError("tawara-vm-host is not installed here", hint="It comes with any packaged guest.")
        done = subprocess.run([RECONCILE, *words], capture_output=True, text=True)
        if done.returncode:
            raise HostError(done.stderr.strip() or f"reconcile failed (exit {done.returncode})")

    def _delta(self, definition: Path, digest: str) -> Path:
        """A guest's delta: in its definition, or shared by several."""
        places = (definition, self.state / "images" / digest)
        return next(path for place in places if (path := place / "disk.qcow2").exists())

    def _definitions(self, place: str) -> list[Path]:
        return [path for path in (self.state / place).glob("*/facts") if not path.parent.name.startswith(".")]

    def _definition(self, name: str) -> Path:
        for place in ("created", "guests"):
            if "/" not in name and (self.state / place / name / "facts").exists():
                return self.state / place / name
        raise NoSuchInstanceError(f"there is no guest {name!r} on this machine")

    def _text(self, name: str, file: str) -> str:
        path = self.state / "instances" / name / file
        return path.read_text() if path.exists() else ""

    def _raise_error(self, name: str) -> None:
        if error := self._text(name, "error").strip():
            raise HostError(error)

    def _virsh(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        require("virsh")
        command = ["virsh", "--quiet", "--connect", "qemu:///system", *words]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, start_new_session=True)
        if check and done.returncode:
            raise HostError(done.stderr.strip())
        return done


def _facts(path: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, _, value in lines}
