"""The contents of each package: nfpm's manifests, pure values that describe a .deb and an .rpm alike."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tawara.vm.definition import STATE

RECONCILE = "/usr/lib/tawara-vm/reconcile"
PARTS = ("accelerator", "domains", "files", "firewall", "images", "instances", "leaving", "networks", "upgrades")
"""The files of functions that reconcile reads."""
CLAIMS = ("name", "fqdn", "mac", "ip", "port", "network", "subnet", "networks")
"""The kinds of claims; what is in `networks` are the directories that those of networks and subnets lead to."""
MAINTAINER = "Tawara <packages@tawara.invalid>"
HOMEPAGE = "https://tawara.invalid"
HOST_RELEASE = 4
"""Raised when the support package changes otherwise than with Tawara's version; guests need at least this one."""
_SWEEP = (
    f"rmdir {STATE}/instances 2>/dev/null; [ -e {STATE}/instances ] || rm -rf {STATE}/images; "
    f"rmdir {STATE} 2>/dev/null || true"
)
"""Said by whichever package is purged last: dpkg may purge a guest after the support package is gone."""


@dataclass(frozen=True)
class Packaged:
    """One file of a package: its current path, and its path in the package."""

    source: str
    target: str
    mode: int = 0o644
    config: bool = False
    link: bool = False
    """A symbolic link; the source is where it leads."""


@dataclass(frozen=True)
class Package:
    """A package of any kind, before nfpm."""

    name: str
    version: str
    summary: str
    files: tuple[Packaged, ...] = ()
    directories: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    exact: tuple[tuple[str, str], ...] = ()
    """Packages that are needed in this very version."""
    at_least: tuple[tuple[str, str], ...] = ()
    """Packages that are needed in this version or a newer one."""
    deb_depends: tuple[str, ...] = ()
    rpm_recommends: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    """Packages with the same files, which cannot be installed at the same time."""
    deb_trigger: str = ""
    """A path: dpkg calls the package's own script once after all packages that brought or took files below it."""
    scripts: dict[str, str] = field(default_factory=dict)
    """deb/rpm script names -> shell text, without the first line."""
    arch: str = "amd64"
    compression: str = "zstd"


def manifest(package: Package, script_paths: dict[str, str], epoch_text: str) -> dict[str, Any]:
    """Return nfpm's manifest (JSON is YAML). `script_paths` are the paths of the scripts."""
    return {
        "name": package.name,
        "arch": package.arch,
        "platform": "linux",
        "version": package.version,
        "version_schema": "none",
        "release": "1",
        "section": "admin",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "description": package.summary,
        "homepage": HOMEPAGE,
        "license": "Apache-2.0",
        "mtime": epoch_text,
        "contents": _contents(package, epoch_text),
        "conflicts": list(package.conflicts),
        "overrides": {
            "deb": {
                "depends": [
                    *package.depends,
                    *package.deb_depends,
                    *(f"{name} (>= {version}-1)" for name, version in package.at_least),
                    *(f"{name} (= {version}-1)" for name, version in package.exact),
                ],
                "scripts": _scripts("deb:", script_paths),
            },
            "rpm": {
                "depends": [
                    *package.depends,
                    *(f"{name} >= {version}-1" for name, version in package.at_least),
                    *(f"{name} = {version}-1" for name, version in package.exact),
                ],
                "recommends": list(package.rpm_recommends),
                "scripts": _scripts("rpm:", script_paths),
            },
        },
        "deb": {
            "compression": package.compression,
            **({"triggers": {"interest_noawait": [package.deb_trigger]}} if package.deb_trigger else {}),
        },
        "rpm": {
            "compression": package.compression,
            "buildhost": "tawara",
            "scripts": {"posttrans": script_paths["rpm:posttrans"]} if "rpm:posttrans" in script_paths else {},
        },
    }


def _contents(package: Package, epoch_text: str) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = [
        {"dst": path, "type": "dir", "file_info": {"mode": 0o755, "mtime": epoch_text}} for path in package.directories
    ]
    for file in package.files:
        entry: dict[str, Any] = {"src": file.source, "dst": file.target}
        entry["file_info"] = {"mode": file.mode, "mtime": epoch_text}
        if file.config:
            entry["type"] = "config|noreplace"
        if file.link:
            entry = {"src": file.source, "dst": file.target, "type": "symlink", "file_info": {"mtime": epoch_text}}
        contents.append(entry)
    return contents


def _scripts(of: str, script_paths: dict[str, str]) -> dict[str, str]:
    """Return those of one kind of package, `deb:` or `rpm:`, except rpm's last one, which has its own field."""
    named = {name.removeprefix(of): path for name, path in script_paths.items() if name.startswith(of)}
    return {name: path for name, path in named.items() if name != "posttrans"}


def host_version(version: str) -> str:
    """Return the support package's version for a version of Tawara."""
    return f"{version}+{HOST_RELEASE}"


def host_package(version: str, source: str) -> Package:
    """Return the support package: the reconcile step, its units, its settings. `source` is the directory of those
    files. dpkg runs its script once for a whole transaction, by a trigger; rpm runs each guest's at the end."""
    kept = ("claims", *(f"claims/{kind}" for kind in CLAIMS), "guests", "bases")
    units = ("tawara-vm-reconcile.service", "tawara-vm-remember.service")
    leaving = f'exec {RECONCILE} before-leaving "$1"\n'
    return Package(
        name="tawara-vm-host",
        version=host_version(version),
        summary="Runs packaged machines: defines, starts and removes the guests that packages bring",
        arch="all",
        files=(
            Packaged(f"{source}/reconcile", RECONCILE, 0o755),
            *(Packaged(f"{source}/lib/{part}", f"/usr/lib/tawara-vm/lib/{part}") for part in PARTS),
            *(Packaged(f"{source}/{unit}", f"/usr/lib/systemd/system/{unit}") for unit in units),
            *(
                Packaged(f"../{unit}", f"/usr/lib/systemd/system/multi-user.target.wants/{unit}", link=True)
                for unit in units
            ),
            Packaged(f"{source}/ssh_config", "/etc/ssh/ssh_config.d/tawara-vm.conf", config=True),
            Packaged(f"{source}/host.conf", "/etc/tawara-vm/host.conf", config=True),
        ),
        directories=(
            "/etc/tawara-vm",
            "/usr/lib/tawara-vm",
            "/usr/lib/tawara-vm/lib",
            STATE,
            *(f"{STATE}/{name}" for name in kept),
        ),
        deb_depends=(
            *("libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "qemu-utils"),
            *("dnsmasq-base", "dnsmasq-utils", "iptables", "nftables", "iproute2", "e2fsprogs", "util-linux"),
        ),
        rpm_recommends=(
            "libvirt-daemon-kvm",
            "libvirt-client",
            "qemu-kvm",
            "qemu-img",
            "dnsmasq",
            "dnsmasq-utils",
            "nftables",
            "e2fsprogs",
        ),
        deb_trigger=f"{STATE}/guests",
        scripts={
            "deb:preremove": leaving,
            "rpm:preremove": leaving,
            "deb:postinstall": f'[ "$1" = triggered ] || exec dpkg-trigger --no-await {STATE}/guests\n'
            f"exec {RECONCILE} installed\n",
            "deb:postremove": f'[ "$1" != purge ] || {{ {_SWEEP}; }}\n',
            "rpm:posttrans": f"exec {RECONCILE} installed\n",
        },
    )


def base_package(name: str, digest: str, version: str, summary: str, folder: str, files: tuple[str, ...]) -> Package:
    """Return a base: its disk, kernel and ram disk. Its name has its digest, so that several can be installed at
    once."""
    place = f"{STATE}/bases/{digest}"
    return Package(
        name=f"tawara-base-{name}-{digest}",
        version=version,
        summary=f"Base of packaged machines: {summary}",
        files=tuple(Packaged(f"{folder}/{file}", f"{place}/{file}") for file in files),
        directories=(place,),
        depends=("tawara-vm-host",),
        compression="zstd:19",
    )


def shared_delta_package(digest: str, version: str, disk: str) -> Package:
    """Return a delta that several guests of a cluster use, packed once."""
    place = f"{STATE}/bases/{digest}"
    return Package(
        name=f"tawara-delta-{digest}",
        version=version,
        summary="What several packaged machines have in common beyond their base",
        files=(Packaged(disk, f"{place}/disk.qcow2"),),
        directories=(place,),
        depends=("tawara-vm-host",),
    )


@dataclass(frozen=True)
class PackagedGuest:
    """One guest in a package: its definition's files with their modes, and its claims."""

    name: str
    files: dict[str, int]
    claims: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    """Claims that packages may share: (claim, where it leads)."""


def cluster_package(
    name: str, version: str, depends: tuple[str, ...], tawara: str, folder: str, guests: tuple[PackagedGuest, ...]
) -> Package:
    """Return all guests of a cluster as one package, so that no version of it can be installed partly."""
    package = _machines(f"tawara-cluster-{name}", version, depends, tawara, folder, guests)
    return replace(
        package,
        summary=f"Packaged data centre {name}: {len(guests)} guests",
        files=(*package.files, Packaged(f"{folder}/cluster.json", f"{STATE}/clusters/{name}.json")),
        directories=(*package.directories, f"{STATE}/clusters"),
    )


def guest_package(
    version: str, summary: str, depends: tuple[str, ...], tawara: str, folder: str, guest: PackagedGuest
) -> Package:
    """Return one guest: its definition, its delta, its claims."""
    package = _machines(f"tawara-guest-{guest.name}", version, depends, tawara, folder, (guest,))
    return replace(package, summary=summary)


def _machines(
    name: str, version: str, depends: tuple[str, ...], tawara: str, folder: str, guests: tuple[PackagedGuest, ...]
) -> Package:
    """Return a package of guests: their definitions are in `folder`/guests, their claims in `folder`/claims. `tawara`
    is the version of the tool that made them. On dpkg the support package's trigger does the work; only if that package
    was removed first are the data purged here."""
    files, directories = [], []
    for guest in guests:
        place = f"{STATE}/guests/{guest.name}"
        directories += [place, f"{place}/networks"]
        files += [
            Packaged(f"{folder}/guests/{guest.name}/{file}", f"{place}/{file}", mode)
            for file, mode in guest.files.items()
        ]
        files += [Packaged(f"{folder}/claims/{claim}", f"{STATE}/claims/{claim}") for claim in guest.claims]
    links = dict(link for guest in guests for link in guest.links)
    files += [Packaged(place, f"{STATE}/claims/{claim}", link=True) for claim, place in links.items()]
    directories += sorted({f"{STATE}/claims/{place.removeprefix('../')}" for place in links.values()})
    absent = f"[ -x {RECONCILE} ] || "
    own = " ".join(f"{STATE}/instances/{guest.name}" for guest in guests)
    facts = "/system/definition/facts"
    former = f"$(grep -ls '^PACKAGE={name}$' {STATE}/instances/*{facts} | sed 's|{facts}||')"
    purged = f"rm -rf {own} {former}; {_SWEEP}"
    return Package(
        name=name,
        version=version,
        summary="",
        files=tuple(files),
        directories=tuple(directories),
        depends=depends,
        at_least=(("tawara-vm-host", host_version(tawara)),),
        scripts={
            "rpm:posttrans": f"{absent}exit 0\nexec {RECONCILE} installed\n",
            "deb:postremove": f'{absent}{{ [ "$1" != purge ] || {{ {purged}; }}; exit 0; }}\n'
            f'[ "$1" != purge ] || exec {RECONCILE} after-remove {name} "$1"\n',
            "rpm:postremove": f'{absent}exit 0\nexec {RECONCILE} after-remove {name} "$1"\n',
        },
    )
