"""Moves instances to other machines: as a file for a host that has the package, and as an appliance (OVA) for other
hypervisors."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tawara.model.errors import NotFoundError
from tawara.vm import transfer
from tawara.vm.bases import RECIPES
from tawara.vm.bases.recipe import EPOCH
from tawara.vm.domain import GuestDomain
from tawara.vm.errors import HostError, NoSuchInstanceError, TakenError
from tawara.vm.host import GuestHost
from tawara.vm.ova.archive import Progress, SourceDisk, take_snapshot_out, virtual_size, write_appliance
from tawara.vm.ova.boot_part import appliance_ramdisk, write_boot_part
from tawara.vm.ova.descriptor import Appliance, Bus, CardModel
from tawara.vm.spec import Guest
from tawara.vm.spec_read import NAME
from tawara.vm.transfer import ExportedInstance
from tawara.vm.virsh import SHOWN

_SETTINGS = ("memory_kib", "cpus", "disk")
_BUSES: tuple[Bus, ...] = ("ide", "sata", "scsi")
"""Those that every hypervisor has, the most common first."""


def export_instance(host: GuestHost, name: str, out: Path) -> ExportedInstance:
    """Write an instance that is off into a file: disks, snapshots, settings. Raises HostError in other states."""
    domain = host.domain(name)
    instance = host.state / "instances" / name
    with host.locked():
        _refuse_unless_off(domain)
        exported = _describe(host, name)
        files: dict[str, Path | bytes] = {transfer.OVERLAY: instance / transfer.OVERLAY}
        if (instance / transfer.DATA).exists():
            files[transfer.DATA] = instance / transfer.DATA
        for number, xml in enumerate(domain.describe_snapshots(), start=100):
            files[f"system/snapshots/{number}.xml"] = xml.encode()
        with _draft(out) as draft, draft.open("wb") as file:
            transfer.write_archive(file, exported, files)
            file.flush()
            os.fsync(file.fileno())
    return exported


def import_instance(host: GuestHost, path: Path, *, replace: bool) -> str:
    """Put an exported instance in place of the one of its name, which is off; return the name.

    Its package has to be installed with the same delta and base. Raises HostError where that is not so, and TakenError
    where data would be lost and `replace` is not set. Cut short, it is repeated.
    """
    exported = transfer.read_header(path)
    name = exported.name
    if not NAME.fullmatch(name) or name not in host.names():
        remedy = f"Install its package first: apt install {exported.package}"
        raise NoSuchInstanceError(f"there is no guest {name} here", hint=remedy)
    instance = host.state / "instances" / name
    domain = host.domain(name)
    with host.locked():
        here = _describe(host, name)
        if (here.delta, here.base) != (exported.delta, exported.base):
            what = f"{name} was exported of version {exported.version}, which has another system disk than this one"
            raise HostError(what, hint=f"Install {exported.package} {exported.version}, and tawara vm upgrade {name}.")
        _refuse_unless_off(domain)
        if not replace:
            raise TakenError(f"{name} has data of its own here", hint="--replace throws it away.")
        staged = instance / "import.new"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(mode=0o700)
        names = transfer.unpack(path, staged)
        transfer.check_disk(staged / transfer.OVERLAY, str(host.state / "images" / here.delta / "disk.qcow2"))
        if transfer.DATA in names:
            transfer.check_disk(staged / transfer.DATA, None)
        shutil.copy(instance / "system" / "layers", staged / "system" / "layers")
        domain.forget_snapshots()
        _put_imported(instance, staged, exported)
    host.reconcile_guests([name])
    return name


def export_appliance(host: GuestHost, name: str, out: Path, snapshot: str | None, progress: Progress) -> list[str]:
    """Write an instance as an appliance that boots by itself, as it is or as it was at a snapshot; return notices.

    Raises HostError for an instance that is not off and no snapshot, and MissingProgramError without GRUB.
    """
    domain = host.domain(name)
    with host.locked():
        if snapshot is None:
            _refuse_unless_off(domain)
        elif snapshot not in domain.snapshots():
            raise NotFoundError(f"{name} has no snapshot {snapshot!r}", hint=f"tawara vm snapshots {name}")
        layers = _describe(host, name)
        guest = host.guest(name)
        appliance, notices = appliance_of(guest, host.settings(name))
        with _draft(out) as draft, tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as place:
            folder = Path(place)
            disks = [host.state / "instances" / name / transfer.OVERLAY]
            disks += [path for path in (host.state / "instances" / name / transfer.DATA,) if path.exists()]
            if snapshot is not None:
                disks = [_at_snapshot(disk, snapshot, folder) for disk in disks]
            head = None
            if guest.image is None:
                head = folder / "head.raw"
                identity = (host.state / "instances" / name / "applied" / "identity.tar").read_bytes()
                _write_head(guest, host.state / "images" / layers.base, identity, head, virtual_size(disks[0]))
            sources = (SourceDisk(disks[0], head), *(SourceDisk(disk) for disk in disks[1:]))
            write_appliance(draft, appliance, sources, folder, progress)
    return notices


def appliance_of(guest: Guest, settings: dict[str, int]) -> tuple[Appliance, list[str]]:
    """Return a guest as an appliance, with hardware that its base has drivers for, and what that hardware cannot do."""
    notices = []
    recipe = RECIPES[guest.base] if guest.image is None else None
    buses = recipe.buses if recipe else (guest.bus,)
    bus = guest.bus if guest.bus in _BUSES else next((each for each in _BUSES if each in buses), "ide")
    models = recipe.nic_models if recipe else tuple(nic.model for nic in guest.nics)
    card = "E1000" if "e1000" in models or not models else "virtio"
    if card == "virtio":
        what = guest.ground
        notices.append(f"{what} has drivers for virtio cards only, which VMware does not have; `classic` has e1000")
    if guest.image is not None and guest.bus == "virtio":
        notices.append("the image was described with virtio disks; the appliance has IDE disks")
    if guest.shares:
        notices.append("the directories that the host shares with it are not in the appliance")
    memory = settings.get("memory_kib", guest.memory // 1024) * 1024
    networks = tuple(nic.network.name for nic in guest.nics)
    summary = guest.description or f"{guest.fqdn}, version {guest.version}"
    cpus = settings.get("cpus", guest.cpus)
    return Appliance(guest.name, summary, memory, cpus, cast(Bus, bus), cast(CardModel, card), networks), notices


def _write_head(guest: Guest, base: Path, identity: bytes, out: Path, size: int) -> None:
    recipe = RECIPES[guest.base]
    ramdisk = appliance_ramdisk((base / "initrd").read_bytes(), identity, recipe.elsewhere(), EPOCH)
    write_boot_part(out, (base / "kernel").read_bytes(), ramdisk, recipe.cmdline, size, EPOCH)


def _at_snapshot(disk: Path, snapshot: str, folder: Path) -> Path:
    out = folder / f"snapshot-{disk.name}"
    take_snapshot_out(disk, snapshot, out)
    return out


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """Yield an empty file beside `out` that only its owner can read, and that replaces it if the block succeeds."""
    draft = out.with_name(f".{out.name}.new")
    os.close(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600))
    try:
        yield draft
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)


def _put_imported(instance: Path, staged: Path, exported: ExportedInstance) -> None:
    (staged / "system").chmod(0o755)
    for each in ("previous", "system"):
        shutil.rmtree(instance / each, ignore_errors=True)
    (staged / "system").rename(instance / "system")
    if (staged / transfer.DATA).exists():
        (staged / transfer.DATA).replace(instance / transfer.DATA)
    shutil.rmtree(staged)
    rows = "".join(f"{key}={int(value)}\n" for key, value in exported.settings if key in _SETTINGS)
    (instance / "settings").write_text(rows)


def _describe(host: GuestHost, name: str) -> ExportedInstance:
    """What an exported file says of an instance; raises HostError for one that was never brought up."""
    layers = host.instance_text(name, "system/layers").split()
    if len(layers) != 2:
        raise HostError(f"{name} has no disk yet", hint=f"tawara vm info {name} says why it is not up.")
    guest = host.guest(name)
    settings = tuple((key, str(value)) for key, value in host.settings(name).items())
    return ExportedInstance(name, guest.fqdn, guest.package, guest.version, layers[0], layers[1], settings)


def _refuse_unless_off(domain: GuestDomain) -> None:
    """Raise HostError unless the disks are at rest and hold all that was written."""
    found = domain.situation()
    if found != "off":
        hint = f"tawara vm stop {domain.name}"
        raise HostError(f"{domain.name} is: {SHOWN[found]}; its disks can be copied only when it is off", hint=hint)
    domain.refuse_foreign_disk()
