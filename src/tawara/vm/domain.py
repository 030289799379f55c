"""One guest's domain: start, stop, snapshot and restore it in any state, or report why that is impossible."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tawara.model.errors import NotFoundError, TawaraError
from tawara.vm.errors import HostError, SwitchedOffError
from tawara.vm.virsh import Situation, has_foreign_disk, situation, virsh

POLL_SECONDS = 0.2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class GuestDomain:
    """`instance` is the guest's directory below instances/."""

    def __init__(self, name: str, instance: Path) -> None:
        self.name = name
        self.instance = instance

    def situation(self) -> Situation:
        """Return its state. Raises HostError if libvirt does not report it."""
        return situation(self.name, self.instance)

    def start(self) -> None:
        """Start it; a running one is left alone. The domain must be defined."""
        match self.situation():
            case "off" | "saved":
                virsh("start", self.name)
            case "paused" | "io-error":
                self._resume()
            case "asleep":
                virsh("dompmwakeup", self.name)
            case "crashed":
                virsh("destroy", self.name)
                virsh("start", self.name)
            case "shutting-down":
                if not self._wait_until_off(60):
                    raise HostError(f"{self.name} is shutting down and does not come to its end", hint=self._force)
                virsh("start", self.name)
            case "foreign" | "absent":
                self._refuse_unknown()
            case "running":
                pass
        self._set_autostart(off=False)

    def stop(self, *, force: bool, seconds: float) -> str:
        """Shut it down by its power button, or switch it off; return a notice, if any. Raises SwitchedOffError if it
        did not shut down in time and was switched off."""
        found = self.situation()
        if found == "foreign":
            self._refuse_unknown()
        if found in ("off", "absent"):
            self._set_autostart(off=True)
            return f"{self.name} does not run"
        if found == "saved" and not force:
            self._set_autostart(off=True)
            return (
                f"{self.name} does not run: its memory is saved, and `start` goes on with it"
                f" (`stop --force {self.name}` throws it away)"
            )
        if found == "saved":
            virsh("managedsave-remove", self.name)
        elif force or found == "crashed":
            virsh("destroy", self.name)
        else:
            self._shut_down(found, seconds)
        self._set_autostart(off=True)
        return ""

    def snapshot(self, snapshot: str) -> str:
        """Take a snapshot of its disks, and of its memory if it runs; return a notice, if any."""
        if not _NAME.fullmatch(snapshot):
            raise HostError(f"{snapshot!r} is no name for a snapshot", hint="Use letters, digits, `.`, `_` and -.")
        found = self.situation()
        reasons: dict[Situation, str] = {
            "saved": "its memory is saved apart from its disks; start it, or throw the memory away with `stop --force`",
            "shutting-down": "it is shutting down; wait until it is off",
            "crashed": "it has crashed; `start` starts it afresh",
            "io-error": "the host could not write its disk; free some room, then start it",
            "asleep": "it sleeps; `start` wakes it",
        }
        if found in reasons:
            raise HostError(f"{self.name} cannot be kept now: {reasons[found]}")
        self._refuse_unknown(found)
        self.refuse_foreign_disk()
        if found in ("running", "paused") and self._has_shares():
            self._snapshot_disks(snapshot, was_paused=found == "paused")
            return f"{self.name} has shared directories, so its disks are kept without its memory"
        virsh("snapshot-create-as", self.name, snapshot)
        return ""

    def check_restore(self, snapshot: str) -> Situation:
        """Raise the reason against `restore`, if any; return the state."""
        found = self.situation()
        self._refuse_unknown(found)
        if snapshot not in self.snapshots():
            raise NotFoundError(f"{self.name} has no snapshot {snapshot!r}", hint=f"tawara vm snapshots {self.name}")
        self.refuse_foreign_disk()
        return found

    def pause(self) -> bool:
        """Pause its processors; return False if it does not run."""
        is_running = self.situation() == "running"
        if is_running:
            virsh("suspend", self.name)
        return is_running

    def resume(self) -> None:
        """Resume a paused guest."""
        if self.situation() == "paused":
            virsh("resume", self.name)

    def restore(self, snapshot: str) -> None:
        """Restore a snapshot; its current state is lost, including saved memory."""
        if self.check_restore(snapshot) == "saved":
            virsh("managedsave-remove", self.name)
        virsh("snapshot-revert", self.name, snapshot)
        # libvirt took the domain's configuration from the snapshot, too; the next run gives it the one in force.
        self._ignore_errors((self.instance / "applied" / "domain.defined").unlink)

    def set_clock(self) -> bool:
        """Set the clock of a guest that was restored with its memory; return False if its agent does not respond."""
        return virsh("domtime", self.name, "--now", check=False).returncode == 0

    def snapshots(self) -> list[str]:
        """Return its snapshots, the oldest first."""
        if self.situation() in ("absent", "foreign"):
            return []
        return virsh("snapshot-list", self.name, "--topological", "--name").stdout.split()

    def describe_snapshots(self) -> list[str]:
        """libvirt's description of each, each after the one that it was taken on."""
        names = virsh("snapshot-list", self.name, "--topological", "--name").stdout.split()
        return [virsh("snapshot-dumpxml", self.name, name).stdout for name in names]

    def forget_snapshots(self) -> None:
        """Have libvirt forget all; the disks that held them are replaced."""
        for name in self.snapshots():
            virsh("snapshot-delete", self.name, name, "--metadata")

    def delete_snapshot(self, snapshot: str) -> None:
        """Delete a snapshot and free its space."""
        if snapshot not in self.snapshots():
            raise NotFoundError(f"{self.name} has no snapshot {snapshot!r}", hint=f"tawara vm snapshots {self.name}")
        self.refuse_foreign_disk()
        virsh("snapshot-delete", self.name, snapshot)

    @property
    def _force(self) -> str:
        return f"`tawara vm stop --force {self.name}` switches it off."

    def _shut_down(self, found: Situation, seconds: float) -> None:
        if found in ("paused", "io-error"):
            self._resume()  # only what runs can shut itself down
        elif found == "asleep":
            virsh("dompmwakeup", self.name)
        if found != "shutting-down":
            virsh("shutdown", self.name)
        if not self._wait_until_off(seconds):
            virsh("destroy", self.name)
            self._set_autostart(off=True)
            raise SwitchedOffError(f"{self.name} did not shut down within {seconds:g} s and was switched off")

    def _resume(self) -> None:
        virsh("resume", self.name)
        if self.situation() == "io-error":
            raise HostError(
                f"{self.name} stays paused: the host cannot write its disk (is the file system full?)",
                hint=f"Free some room and start it again. {self._force}",
            )

    def _wait_until_off(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.situation() not in ("off", "absent"):
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _refuse_unknown(self, found: Situation | None = None) -> None:
        found = found or self.situation()
        if found == "foreign":
            raise HostError(f"libvirt has another domain that is called {self.name}; it is left alone")
        if found == "absent":
            raise HostError(f"libvirt does not know {self.name}", hint=f"tawara vm start {self.name}")

    def refuse_foreign_disk(self) -> None:
        """Raise HostError if a snapshot from outside has put a disk of its own on top of the instance's."""
        if has_foreign_disk(self.name, self.instance):
            raise HostError(
                f"{self.name} runs on a disk that a snapshot outside Tawara made",
                hint=f"Merge it first: virsh blockcommit {self.name} DISK --active --pivot",
            )

    def _set_autostart(self, *, off: bool) -> None:
        """Record whether it is to be started with the host. Users other than root may start guests, but not record
        that."""
        mark = self.instance / "off"
        self._ignore_errors((lambda: mark.touch()) if off else (lambda: mark.unlink(missing_ok=True)))

    @staticmethod
    def _ignore_errors(act: Callable[[], object]) -> None:
        try:
            act()
        except (PermissionError, FileNotFoundError):
            return

    def _has_shares(self) -> bool:
        return "<filesystem " in virsh("dumpxml", self.name).stdout

    def _snapshot_disks(self, snapshot: str, *, was_paused: bool) -> None:
        """Take a snapshot of all disks at one moment, without memory: QEMU cannot save the memory of a guest with
        shared directories."""
        if snapshot in self.snapshots():
            raise HostError(f"{self.name} has a snapshot {snapshot!r} already")
        frozen = not was_paused and virsh("domfsfreeze", self.name, check=False).returncode == 0
        if not was_paused:
            virsh("suspend", self.name)
        try:
            nodes = [each["device"] or each["inserted"]["node-name"] for each in self._disks()]
            actions = [
                {"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": snapshot}}
                for node in nodes
            ]
            self._monitor("transaction", actions=actions)
        finally:
            if not was_paused:
                virsh("resume", self.name)
            if frozen:
                virsh("domfsthaw", self.name, check=False)
        self._tell_libvirt(snapshot)

    def _disks(self) -> list[Any]:
        """Return QEMU's writable qcow2 disks."""
        found = [each for each in self._monitor("query-block") if "inserted" in each]
        return [each for each in found if each["inserted"]["drv"] == "qcow2" and not each["inserted"]["ro"]]

    def _monitor(self, command: str, **arguments: object) -> Any:
        request = json.dumps({"execute": command, "arguments": arguments})
        answer = json.loads(virsh("qemu-monitor-command", self.name, request).stdout)
        if "error" in answer:
            raise HostError(f"QEMU refused: {answer['error']['desc']}")
        return answer["return"]

    def _tell_libvirt(self, snapshot: str) -> None:
        """Tell libvirt of a snapshot taken by QEMU; described as one of a stopped guest, it can be reverted to."""
        domain = ElementTree.fromstring(virsh("dumpxml", self.name, "--inactive").stdout)  # noqa: S314 - libvirt wrote it
        top = ElementTree.Element("domainsnapshot")
        ElementTree.SubElement(top, "name").text = snapshot
        ElementTree.SubElement(top, "state").text = "shutoff"
        ElementTree.SubElement(top, "creationTime").text = str(int(time.time()))
        ElementTree.SubElement(top, "memory", snapshot="no")
        disks = ElementTree.SubElement(top, "disks")
        for disk in domain.findall("devices/disk"):
            target = disk.find("target")
            assert target is not None
            is_kept = disk.find("driver[@type='qcow2']") is not None
            ElementTree.SubElement(disks, "disk", name=target.get("dev", ""), snapshot="internal" if is_kept else "no")
        top.append(domain)
        path = self.instance / f"snapshot-{snapshot}.xml"
        path.write_text(ElementTree.tostring(top, encoding="unicode"))
        try:
            virsh("snapshot-create", self.name, str(path), "--redefine", "--current")
        finally:
            path.unlink()


def snapshot_together(domains: Sequence[GuestDomain], snapshot: str) -> str:
    """Take a snapshot of several domains at one moment, all or none; return a notice, if any. A single one is not
    paused for it."""
    halted, kept, said = [], [], []
    try:
        if len(domains) > 1:
            halted = [domain for domain in domains if domain.pause()]
        for domain in domains:
            said.append(domain.snapshot(snapshot))
            kept.append(domain)
    except TawaraError:
        for domain in kept:
            domain.delete_snapshot(snapshot)
        raise
    finally:
        for domain in halted:
            domain.resume()
    return "\n".join(filter(None, said))
