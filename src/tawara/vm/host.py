"""This machine's instances: those wanted by packages and `create`, libvirt's state, and the step that reconciles
them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from tawara.model.errors import ConflictError
from tawara.vm import guest_json
from tawara.vm.bases import RECIPES
from tawara.vm.bases.recipe import EPOCH
from tawara.vm.definition import STATE, Layers, claims, definition_files
from tawara.vm.domain import GuestDomain, snapshot_together
from tawara.vm.errors import HostError, NoSuchInstanceError, TakenError
from tawara.vm.foreign.instance import own_delta
from tawara.vm.host_keys import host_key
from tawara.vm.instance import clone, refuse_taken
from tawara.vm.package_manifest import RECONCILE
from tawara.vm.spec import Guest
from tawara.vm.spec_fields import show_size
from tawara.vm.virsh import SHOWN, Situation, situation

STOP_SECONDS = 30.0
"""How long a guest may take to shut down unless host.conf or --timeout says otherwise."""
_LOCK = Path("/run/tawara-vm/lock")
_CONFIG = Path("/etc/tawara-vm/host.conf")
_COMPARED = ("facts", "domain.xml", "reservations", "known_hosts", "hosts")
"""What of a definition every user may read; it differs whenever a version does."""


@dataclass(frozen=True)
class Instance:
    """One guest of this machine."""

    guest: Guest
    """As its definition in force says."""
    origin: str
    """The package that owns it, or `created`."""
    state: Situation
    delta: str
    newest: bool
    """Is the newest definition in force that its package (or the guest that it was made from) has?"""
    error: str

    @property
    def failed(self) -> bool:
        """Whether it could not be started, or does not run though it was not switched off."""
        return bool(self.error) or self.state in ("absent", "foreign", "crashed", "io-error")

    @property
    def addresses(self) -> dict[str, str]:
        """By network."""
        return {nic.network.name: str(nic.ip) for nic in self.guest.nics}

    def as_json(self) -> dict[str, object]:
        """The instance for `--json`."""
        return {
            "name": self.guest.name,
            "fqdn": self.guest.fqdn,
            "state": SHOWN[self.state],
            "origin": self.origin,
            "version": self.guest.version,
            "delta": self.delta,
            "newest": self.newest,
            "addresses": self.addresses,
            "published": [f"{each.host_port}/{each.protocol} to {each.port}" for each in self.guest.published],
            "error": self.error,
        }


class GuestHost:
    """This machine. `state` is the directory of packages and instances; another one is for tests."""

    def __init__(self, state: Path = Path(STATE)) -> None:
        self.state = state

    def names(self) -> list[str]:
        """Return every guest that is wanted here."""
        return sorted({path.parent.name for place in ("guests", "created") for path in self._definitions(place)})

    def instance(self, name: str) -> Instance:
        """Return one instance. Raises NoSuchInstanceError, and HostError if libvirt does not respond."""
        wanted = self._definition(name)
        applied = self.state / "instances" / name / "applied"
        layers = self.instance_text(name, "system/layers").split() or ["", ""]
        guest = self.guest(name)
        return Instance(
            guest=guest,
            origin=guest.package if wanted.parent.name == "guests" else "created",
            state=situation(name, self.state / "instances" / name),
            delta=layers[0],
            newest=self._is_newest(wanted, applied),
            error=self.instance_text(name, "error").strip(),
        )

    def guest(self, name: str) -> Guest:
        """Return a guest by its definition in force. Raises NoSuchInstanceError. libvirt is not queried."""
        wanted = self._definition(name)
        in_force = self.state / "instances" / name / "applied" / "guest.json"
        return guest_json.read((in_force if in_force.exists() else wanted / "guest.json").read_bytes())

    def instances(self) -> list[Instance]:
        """Return all instances, by name. Raises HostError if libvirt does not respond."""
        return [self.instance(name) for name in self.names()]

    def domain(self, name: str) -> GuestDomain:
        """Return the instance's domain. Raises NoSuchInstanceError."""
        self._definition(name)
        return GuestDomain(name, self.state / "instances" / name)

    def create(
        self, name: str, template: str, fqdn: str | None = None, ips: Mapping[str, IPv4Address] | None = None
    ) -> Guest:
        """Create and start another instance of an installed guest, with its own identity and overlay."""
        source = self._definition(template)
        guest = clone(guest_json.read((source / "guest.json").read_bytes()), name, fqdn, ips)
        if name in self.names():
            raise TakenError(f"there is a guest {name} already", hint="`tawara vm list` shows those that there are.")
        if (self.state / "instances" / name).exists():
            remedy = f"Install its package again, or take the data away: {RECONCILE} purge {name}"
            raise TakenError(f"the data of a guest {name} that was removed is still here", hint=remedy)
        refuse_taken(guest, self.taken())
        self._write(name, source, guest)
        self.reconcile_for(name)
        return guest

    def reconcile_for(self, name: str) -> None:
        """Start one instance; failures of others are no error of this one."""
        done = self._step()
        self._raise_error(name)
        if not (self.state / "instances" / name / "applied").is_dir():
            raise HostError(done.stderr.strip() or f"reconcile failed (exit {done.returncode})")

    def _renew(self, name: str) -> None:
        """Recreate a created instance's definition from the current state of its template."""
        folder = self.state / "created" / name
        source = self._template(folder)
        if not (folder / "template.json").exists():
            raise HostError(
                f"{name} was created by an older Tawara, which did not note what it was made from",
                hint=f"""Note it: echo '{{"name": "TEMPLATE", "digest": ""}}' >{folder}/template.json""",
            )
        if source is None:
            raise HostError(
                f"the guest that {name} was made from is not installed here",
                hint="Install its package again; until then the instance stays as it is.",
            )
        old = guest_json.read((folder / "guest.json").read_bytes())
        ips = {nic.network.name: nic.ip for nic in old.nics}
        template = guest_json.read((source / "guest.json").read_bytes())
        self._write(name, source, clone(template, name, old.fqdn, ips))

    def _write(self, name: str, source: Path, guest: Guest) -> None:
        """Write a created instance's definition atomically; its host key is unchanged."""
        target = self.state / "created" / name
        draft, old = (self.state / "created" / f".{name}.{word}" for word in ("draft", "old"))
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, mode=0o755)
        facts = _facts(source / "facts")
        if (target / "keys").is_dir():
            shutil.copytree(target / "keys", draft / "keys")
        key = host_key(draft / "keys")
        disk = self._delta(source, facts["DELTA"])
        if guest.image is not None and guest.image.identity == "ours":
            base = self.state / "images" / facts["BASE"] / "disk.qcow2"
            facts["DELTA"] = own_delta(guest, key, base, disk, draft / "disk.qcow2")
        else:
            os.link(disk, draft / "disk.qcow2")
        layers = Layers(facts["DELTA"], facts["BASE"])
        recipe = RECIPES[guest.base] if guest.image is None else None
        files = definition_files(guest, layers, recipe, key, EPOCH)
        files["template.json"] = json.dumps({"name": source.name, "digest": _digest(source)}).encode()
        for path, content in files.items():
            (draft / path).parent.mkdir(exist_ok=True)
            (draft / path).touch(mode=0o600 if path == "identity.tar" else 0o644)
            (draft / path).write_bytes(content)
        with self.locked():
            shutil.rmtree(old, ignore_errors=True)
            if target.exists():
                target.rename(old)
            draft.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove a created instance with its data; a package's instance is removed by the package manager."""
        folder = self._definition(name)
        if folder.parent.name == "guests":
            package = guest_json.read((folder / "guest.json").read_bytes()).package
            raise TakenError(f"{name} belongs to the package {package}", hint=f"apt purge {package} (or dnf remove)")
        gone = folder.with_name(f".{name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)
        self.reconcile("purge", name)

    def start(self, name: str) -> str:
        """Start an instance; a running one is left alone. Returns the step's output."""
        domain = self.domain(name)
        if domain.situation() == "absent":
            self._want_on(name)
            said = self.reconcile()
            self._raise_error(name)
            return said
        with self.locked():
            domain.start()
        return ""

    def stop(self, name: str, *, force: bool = False, seconds: float | None = None) -> str:
        """Shut an instance down, or switch it off; return a notice. Raises SwitchedOffError after a time-out."""
        domain = self.domain(name)
        with self.locked():
            return domain.stop(force=force, seconds=self._stop_seconds() if seconds is None else seconds)

    def snapshot(self, name: str, snapshot: str) -> str:
        """Take a snapshot of the disks (and memory, if it runs) of an instance, or of all of a cluster; return a
        notice. Those of a cluster are paused meanwhile, so that all snapshots are of one moment; it is all or none."""
        domains = [self.domain(each) for each in self.cluster(name)]
        with self.locked():
            return snapshot_together(domains, snapshot)

    def restore(self, name: str, snapshot: str) -> str:
        """Restore a snapshot of an instance, or of all of a cluster; return a notice."""
        names = self.cluster(name)
        domains = [self.domain(each) for each in names]
        for domain in domains:
            domain.check_restore(snapshot)
        with self.locked():
            for domain in domains:
                domain.restore(snapshot)
            if len(domains) > 1:  # they were halted when they were kept
                for domain in domains:
                    domain.resume()
        if os.geteuid() == 0:
            self.reconcile_guests(names)
        return "\n".join(filter(None, (self._after_restore(each) for each in names)))

    def _after_restore(self, name: str) -> str:
        domain = self.domain(name)
        if domain.situation() != "running" or domain.set_clock() or self.instance(name).guest.image is None:
            return ""  # a guest on `tiny` looks at the machine's clock by itself
        return f"{name} has no guest agent that answers: its clock stands where the snapshot was taken"

    def snapshots(self, name: str) -> list[str]:
        """Return the instance's snapshots."""
        return self.domain(name).snapshots()

    def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Delete a snapshot of the instance."""
        domain = self.domain(name)
        with self.locked():
            domain.delete_snapshot(snapshot)

    def upgrade(self, names: Sequence[str]) -> str:
        """Put the newest definitions of all these in force together; return the changes. Data disks stay."""
        for name in names:
            if self._definition(name).parent.name == "created":
                self._renew(name)
        return self.reconcile_guests(names, "upgrade", *names)

    def back(self, name: str) -> str:
        """Undo an instance's last upgrade; return the step's output."""
        self._definition(name)
        return self.reconcile_guests([name], "back", name)

    def settings(self, name: str) -> dict[str, int]:
        """Return the settings of this instance that override its package: `memory_kib`, `cpus`."""
        self._definition(name)
        rows = (line.partition("=") for line in self.instance_text(name, "settings").splitlines())
        return {key: int(value) for key, _, value in rows}

    def set(self, name: str, changes: Mapping[str, int | None]) -> str:
        """Change settings of an instance permanently; None resets one. They apply from its next start on."""
        if "disk" in changes:
            self._judge_disk(name, changes["disk"])
        kept = {key: value for key, value in {**self.settings(name), **changes}.items() if value is not None}
        path = self.state / "instances" / name / "settings"
        draft = path.with_suffix(".new")
        draft.write_text("".join(f"{key}={value}\n" for key, value in sorted(kept.items())))
        draft.replace(path)
        self.reconcile_guests([name])
        if self.domain(name).situation() == "off":
            return ""
        return (
            f"{name} has it when it is started next" if set(changes) != {"disk"} else f"{name} uses it after a restart"
        )

    def _judge_disk(self, name: str, size: int | None) -> None:
        """Raise ConflictError unless the instance's system disk can have this size."""
        guest = self.guest(name)
        if guest.image is None and not RECIPES[guest.base].grows:
            remedy = "Give it a [data] disk in its description."
            raise ConflictError(f"{name} is on {guest.base}, whose file system cannot grow", hint=remedy)
        now = max(guest.disk, self.settings(name).get("disk", 0))
        if size is None or size < now:
            raise ConflictError(f"the disk of {name} has {show_size(now)}; it can only become larger", hint=None)

    def cluster(self, name: str) -> list[str]:
        """Return the guests of an installed cluster; a guest's own name is a cluster of one."""
        table = self.state / "clusters" / f"{name}.json"
        if "/" in name or name in self.names() or not table.exists():
            self._definition(name)
            return [name]
        return sorted(set(json.loads(table.read_text())["guests"]) & set(self.names()))

    def changes(self, name: str) -> str:
        """Return what an upgrade would change, one line each."""
        if self._definition(name).parent.name == "created":
            self._renew(name)
        return self._step("changes", name).stdout.strip()

    def taken(self) -> dict[str, str]:
        """Return every claim on this machine and its owner."""
        taken = {}
        exclusive = (path for path in (self.state / "claims").glob("*/*") if path.is_file())
        for path in exclusive:
            taken[f"{path.parent.name}/{path.name}"] = path.read_text().strip()
        for path in self._definitions("created"):
            guest = guest_json.read((path.parent / "guest.json").read_bytes())
            taken |= dict.fromkeys(claims(guest), f"the instance {guest.name}")
        return taken

    def reconcile(self, *words: str) -> str:
        """Run the host's reconcile step; return its output. Raises HostError with its message."""
        done = self._step(*words)
        if done.returncode:
            raise HostError(done.stderr.strip() or f"reconcile failed (exit {done.returncode})")
        return done.stderr.strip()

    def _step(self, *words: str) -> subprocess.CompletedProcess[str]:
        if not Path(RECONCILE).exists():
            raise HostError("tawara-vm-host is not installed here", hint="It comes with any packaged guest.")
        return subprocess.run([RECONCILE, *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def reconcile_guests(self, names: Sequence[str], *words: str) -> str:
        """Run the step for some guests; failures of others are no error of these."""
        said = self.reconcile(*words)
        for name in names:
            self._raise_error(name)
        return said

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the step's lock while a domain changes; any user may wait for it."""
        if not _LOCK.exists():
            yield
            return
        with _LOCK.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _stop_seconds(self) -> float:
        text = _CONFIG.read_text() if _CONFIG.exists() else ""
        found = re.findall(r"^stop_seconds=['\"]?(\d+)", text, re.MULTILINE)
        return float(found[-1]) if found else STOP_SECONDS

    def _want_on(self, name: str) -> None:
        instance = self.state / "instances" / name
        if instance.is_dir():
            (instance / "off").unlink(missing_ok=True)
            (instance / "pending").touch()

    def _is_newest(self, wanted: Path, applied: Path) -> bool:
        if not applied.is_dir():
            return True  # nothing is in force yet; what the package has is taken
        template = self._template(wanted)
        if template is not None:
            made_from = json.loads((wanted / "template.json").read_text())["digest"]
            return bool(made_from == _digest(template))
        files = [(wanted / name, applied / name) for name in _COMPARED]
        return all(new.read_bytes() == old.read_bytes() for new, old in files)

    def _template(self, definition: Path) -> Path | None:
        """Return the definition that a created instance was made from; None for a package's, or if it does not exist
        here."""
        note = definition / "template.json"
        if not note.exists():
            return None
        folder = self.state / "guests" / json.loads(note.read_text())["name"]
        return folder if (folder / "facts").exists() else None

    def _delta(self, definition: Path, digest: str) -> Path:
        """Return a guest's delta: in its definition, or shared by several."""
        places = (definition, self.state / "images" / digest, self.state / "bases" / digest)
        return next(path for place in places if (path := place / "disk.qcow2").exists())

    def _definitions(self, place: str) -> list[Path]:
        return [path for path in (self.state / place).glob("*/facts") if not path.parent.name.startswith(".")]

    def _definition(self, name: str) -> Path:
        for place in ("created", "guests"):
            if "/" not in name and (self.state / place / name / "facts").exists():
                return self.state / place / name
        raise NoSuchInstanceError(f"there is no guest {name!r} on this machine")

    def instance_text(self, name: str, file: str) -> str:
        """Return the text of a file in an instance's directory, empty if there is none."""
        path = self.state / "instances" / name / file
        return path.read_text() if path.exists() else ""

    def _raise_error(self, name: str) -> None:
        if error := self.instance_text(name, "error").strip():
            raise HostError(error)


def _facts(path: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value.strip("'") for name, _, value in lines}


def _digest(definition: Path) -> str:
    """Return a digest of a definition without its secrets."""
    return hashlib.sha256(b"\0".join((definition / name).read_bytes() for name in _COMPARED)).hexdigest()
