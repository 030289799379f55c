"""`tawara vm build`: builds packages and a repository in dist/ from a guest's description."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import tawara
from tawara.vm import package_manifest
from tawara.vm.base_image import Base, Report, build_base, locked
from tawara.vm.bases import RECIPES
from tawara.vm.bases.recipe import EPOCH, HostKey, Recipe
from tawara.vm.built import Register, digest_of
from tawara.vm.cluster import GuestCluster, is_cluster, keep_addresses, read_cluster, show
from tawara.vm.definition import Layers, claims, definition_files, network_claims
from tawara.vm.delta import Delta, build_delta
from tawara.vm.errors import BuildError
from tawara.vm.foreign import image as foreign_image
from tawara.vm.foreign.delta import build_delta as build_foreign_delta
from tawara.vm.host_keys import host_key
from tawara.vm.package_manifest import Package, PackagedGuest
from tawara.vm.packager import KINDS, build_package, file_name, index_repository
from tawara.vm.spec import Guest
from tawara.vm.spec_fields import show_size
from tawara.vm.spec_read import read_guest
from tawara.vm.tool_package import LAUNCHER, digest_of_tool, tool_files, tool_package

_SECRET = {"identity.tar": 0o600}


@dataclass(frozen=True)
class Options:
    """Options of a build."""

    out: Path
    cache: Path
    report: Report
    epoch: int = EPOCH
    mirror: str = ""
    signing_key: str | None = None
    kinds: tuple[str, ...] = KINDS
    allow_clashes: bool = False
    """May it claim what another package in `out` claims? They are for different hosts then."""
    keys: tuple[str, ...] = ()
    """Public keys that may log in to every guest, besides those of its description."""


@dataclass
class Built:
    """Result of a build."""

    packages: list[Path] = field(default_factory=list)
    base: str = ""
    delta: str = ""
    delta_bytes: int = 0
    tool: list[Path] = field(default_factory=list)
    """The command for hosts; guests do not need it."""


def default_cache() -> Path:
    """Return the directory in which bases are kept between builds."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tawara" / "vm"


def build_epoch() -> int:
    """Return SOURCE_DATE_EPOCH, or the fixed time of all our images."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or EPOCH)


def build_file(path: Path, options: Options) -> Built:
    """Build the guest or cluster of a description, with everything it needs, and index the directory."""
    options.out.mkdir(parents=True, exist_ok=True)
    register = Register(options.out)
    cluster = _cluster_of(path)
    if cluster is not None:
        built = build_cluster(cluster, path.parent, options, register)
        keep_addresses(path.parent / f"{cluster.name}.keys", cluster)
    else:
        (guest,) = read_file(path)
        built = build_guest(guest, host_key(path.parent / f"{guest.name}.keys"), options, register)
    register.save()
    built.packages += build_host_package(options)
    built.tool = build_tool_package(options)
    options.report("indexing the repository")
    index_repository(options.out, options.epoch, options.signing_key)
    return built


def read_file(path: Path) -> tuple[Guest, ...]:
    """Return the guests of a description. Raises SpecError with every mistake in it."""
    cluster = _cluster_of(path)
    if cluster is not None:
        return cluster.guests
    return (read_guest(path.read_text(), str(path), path.stem, path.parent),)


def _cluster_of(path: Path) -> GuestCluster | None:
    text = path.read_text()
    return read_cluster(text, str(path), path.stem, path.parent) if is_cluster(text) else None


@dataclass(frozen=True)
class _Machine:
    """A guest with its layers built: the content of its package."""

    guest: Guest
    base: Base
    delta: Delta
    files: dict[str, bytes]
    packages: list[Path]
    """Of its base."""


def build_cluster(cluster: GuestCluster, folder: Path, options: Options, register: Register) -> Built:
    """Build one package with every guest's definition, and one for each delta and base that they use."""
    keys = folder / f"{cluster.name}.keys"
    machines = [_build_layers(guest, host_key(keys / guest.name), options) for guest in cluster.guests]
    table = {"cluster.json": (json.dumps(show(cluster), indent=2, sort_keys=True) + "\n").encode()}
    _register(register, cluster.package, cluster.version, machines, table, options)
    whole = Built(base=machines[-1].base.digest, delta=machines[-1].delta.digest)
    needs = {machine.base.package for machine in machines}
    for delta in {machine.delta.digest: machine.delta for machine in machines}.values():
        package = package_manifest.shared_delta_package(delta.digest, tawara.__version__, str(delta.path))
        needs.add(package.name)
        whole.packages += build_package(package, options.out, options.epoch, options.kinds)
        whole.delta_bytes += delta.path.stat().st_size
    with tempfile.TemporaryDirectory(prefix="tawara-cluster-") as name:
        _write(Path(name), table)
        guests = tuple(_lay_out(machine, Path(name)) for machine in machines)
        package = package_manifest.cluster_package(
            cluster.name, cluster.version, tuple(sorted(needs)), tawara.__version__, name, guests
        )
        options.report(f"{cluster.name}: packaging")
        whole.packages += build_package(package, options.out, options.epoch, options.kinds)
    whole.packages += dict.fromkeys(path for machine in machines for path in machine.packages)
    return whole


def build_guest(guest: Guest, key: HostKey, options: Options, register: Register) -> Built:
    """Build the guest's package, with its delta, and its base's package."""
    machine = _build_layers(guest, key, options)
    guest, delta = machine.guest, machine.delta
    _register(register, guest.package, guest.version, [machine], {}, options)
    with tempfile.TemporaryDirectory(prefix="tawara-guest-") as name:
        packaged = _lay_out(machine, Path(name))
        shutil.copyfile(delta.path, Path(name) / "guests" / guest.name / "disk.qcow2")
        packaged.files["disk.qcow2"] = delta.path.stat().st_mode & 0o777
        summary = guest.description or f"Packaged machine {guest.fqdn} on {guest.ground}"
        package = package_manifest.guest_package(
            guest.version, summary, (machine.base.package,), tawara.__version__, name, packaged
        )
        options.report(f"{guest.name}: packaging")
        packages = build_package(package, options.out, options.epoch, options.kinds)
    return Built([*machine.packages, *packages], machine.base.digest, delta.digest, delta.path.stat().st_size)


def _build_layers(guest: Guest, key: HostKey, options: Options) -> _Machine:
    """Return base and delta, from the cache or built, and the definition over them."""
    recipe = None
    guest = replace(guest, authorized_keys=tuple(dict.fromkeys((*guest.authorized_keys, *options.keys))))
    if guest.image is not None:
        guest, base, delta = foreign_layers(guest, key, options)
    else:
        recipe = RECIPES[guest.base]
        base = build_base(recipe, options.cache, options.epoch, options.report, options.mirror)
        delta = _own_delta(guest, base, recipe, options)
    packages = _base_packages(base, recipe.summary if recipe else "a disk image of another making", options)
    files = definition_files(guest, Layers(delta.digest, base.digest), recipe, key, options.epoch)
    return _Machine(guest, base, delta, files, packages)


def _own_delta(guest: Guest, base: Base, recipe: Recipe, options: Options) -> Delta:
    facts = (_kind(guest), base.digest, recipe.release, options.epoch, options.mirror)

    def make(draft: Path) -> None:
        build_delta(guest, base, recipe, draft, options.epoch, options.report, options.mirror)

    return _kept_delta(base, facts, make)


def _lay_out(machine: _Machine, folder: Path) -> PackagedGuest:
    """Write a guest's definition and claims to the paths in its package's manifest."""
    guest = machine.guest
    claimed = claims(guest)
    _write(folder / "guests" / guest.name, machine.files)
    _write(folder / "claims", claimed)
    modes = {name: _SECRET.get(name, 0o644) for name in machine.files}
    return PackagedGuest(guest.name, modes, tuple(claimed), tuple(network_claims(guest).items()))


def _register(
    register: Register, package: str, version: str, machines: list[_Machine], more: dict[str, bytes], options: Options
) -> None:
    """Record what is about to be packaged. Raises BuildError if it is not allowed."""
    files = {f"{each.guest.name}/{name}": content for each in machines for name, content in each.files.items()}
    claimed = {claim: "" for each in machines for claim in claims(each.guest)}
    for each in machines:
        claimed |= network_claims(each.guest)
    content = digest_of(files | more, *(f"{each.base.digest} {each.delta.digest}" for each in machines))
    delta = machines[0].delta.digest
    register.add(package, version, content, claimed, delta=delta, clashes=options.allow_clashes)


def foreign_layers(guest: Guest, key: HostKey, options: Options) -> tuple[Guest, Base, Delta]:
    """Return the layers of a guest on a foreign image: the image as a base, and the description's changes as a
    delta."""
    assert guest.image is not None
    base = foreign_image.build_base(guest.image, options.cache, options.report)
    size = foreign_image.disk_size(base)
    if 0 < guest.disk < size:
        raise BuildError(
            f"{guest.name}: the image's disk has {show_size(size)}, more than the {show_size(guest.disk)} of the guest",
            hint=f'Leave `size` out below [disk], or write "{show_size(size)}" or more.',
        )
    inside = None
    if _is_edited(guest):
        inside = foreign_image.inspect_image(base, options.cache, options.report, options.mirror)
    image = replace(guest.image, path=Path(guest.image.path).name, root=inside.root if inside else None)
    guest = replace(guest, image=image, disk=guest.disk or size)
    facts = (_kind(guest), base.digest, key.public if image.identity == "ours" else "", options.epoch)

    def make(draft: Path) -> None:
        build_foreign_delta(
            guest,
            key,
            base,
            inside,
            draft,
            cache=options.cache,
            epoch=options.epoch,
            report=options.report,
            mirror=options.mirror,
        )

    return guest, base, _kept_delta(base, facts, make)


def _is_edited(guest: Guest) -> bool:
    image = guest.image
    asked = (guest.files, guest.commands, guest.authorized_keys, guest.data, guest.shares, image and image.augeas)
    return any(asked) or (image is not None and image.identity == "ours")


def _kind(guest: Guest) -> Guest:
    """Return what determines a guest's delta: two guests of one kind share it."""
    kind = replace(guest, version="", nics=(), order=0, description="", memory=0, cpus=0, cluster="")
    return kind if guest.image and guest.image.identity == "ours" else replace(kind, name="", fqdn="")


def _kept_delta(base: Base, facts: object, make: Callable[[Path], None]) -> Delta:
    """Return the delta from the cache, or build it: another guest of the same kind costs nothing."""
    folder = base.folder / "deltas" / hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    disk = folder / "disk.qcow2"
    if not disk.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"draft-{os.getpid()}.qcow2"
        make(draft)
        draft.rename(disk)
    return Delta(disk, hashlib.sha256(disk.read_bytes()).hexdigest()[:12])


def build_host_package(options: Options) -> list[Path]:
    """Build the support package that every guest depends on."""
    with importlib.resources.as_file(importlib.resources.files("tawara.vm") / "host_files") as source:
        package = package_manifest.host_package(tawara.__version__, str(source))
        return build_package(package, options.out, options.epoch, options.kinds)


def build_tool_package(options: Options) -> list[Path]:
    """Build the command's package for hosts, once for each content."""
    files = tool_files()
    kept = options.cache / "tool" / f"{digest_of_tool(files)}-{options.epoch}"
    launcher = kept / "tawara"
    package = tool_package(files, launcher)

    def make(missing: tuple[str, ...]) -> None:
        launcher.write_text(LAUNCHER)
        build_package(package, kept, options.epoch, missing)

    return _copy_kept(package, kept, make, options)


def _base_packages(base: Base, summary: str, options: Options) -> list[Path]:
    """Return the base's packages, made once and kept with the cached base, because packing takes longer than
    building."""
    package = package_manifest.base_package(
        base.name, base.digest, tawara.__version__, summary, str(base.folder), base.files
    )

    def make(missing: tuple[str, ...]) -> None:
        options.report(f"{base.name}: packaging the base")
        build_package(package, base.folder / "packages", options.epoch, missing)

    return _copy_kept(package, base.folder / "packages", make, options)


def _copy_kept(package: Package, kept: Path, make: Callable[[tuple[str, ...]], None], options: Options) -> list[Path]:
    """Copy a package's files from the cache; `make` makes the missing kinds."""
    with locked(options.cache):
        kept.mkdir(parents=True, exist_ok=True)
        missing = tuple(kind for kind in options.kinds if not (kept / file_name(package, kind)).exists())
        if missing:
            make(missing)
    made = []
    for name in (file_name(package, kind) for kind in options.kinds):
        made.append(options.out / name)
        if not made[-1].exists() or package.name == "tawara-vm":
            options.out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept / name, made[-1])
    return made


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Write small files below the directory."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
