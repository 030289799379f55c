"""What goes into each package: nfpm's manifests, pure values that describe a .deb and an .rpm alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tawara.vm.definition import STATE

RECONCILE = "/usr/lib/tawara-vm/reconcile"
MAINTAINER = "Tawara <packages@tawara.invalid>"
HOMEPAGE = "https://tawara.invalid"
_SWEEP = (
    f"rmdir {STATE}/instances 2>/dev/null; [ -e {STATE}/instances ] || rm -rf {STATE}/images; "
    f"rmdir {STATE} 2>/dev/null || true"
)
"""Said by whichever package is purged last: dpkg may purge a guest after the support package is gone."""


@dataclass(frozen=True)
class Packaged:
    """One file of a package: where it is now, where it goes."""

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
    deb_depends: tuple[str, ...] = ()
    rpm_recommends: tuple[str, ...] = ()
    scripts: dict[str, str] = field(default_factory=dict)
    """deb/rpm script names -> shell text, without the first line."""
    arch: str = "amd64"
    compression: str = "zstd"


def manifest(package: Package, script_paths: dict[str, str], epoch_text: str) -> dict[str, Any]:
    """nfpm's manifest (JSON is YAML). `script_paths` says where the scripts were written."""
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
        "overrides": {
            "deb": {
                "depends": [
                    *package.depends,
                    *package.deb_depends,
                    *(f"{name} (= {version}-1)" for name, version in package.exact),
                ],
                "scripts": _scripts("deb:", script_paths),
            },
            "rpm": {
                "depends": [*package.depends, *(f"{name} = {version}-1" for name, version in package.exact)],
                "recommends": list(package.rpm_recommends),
                "scripts": _scripts("rpm:", script_paths),
            },
        },
        "deb": {"compression": package.compression},
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
    """Those of one kind of package, `deb:` or `rpm:`, except for rpm's very last, which has a place of its own."""
    named = {name.removeprefix(of): path for name, path in script_paths.items() if name.startswith(of)}
    return {name: path for name, path in named.items() if name != "posttrans"}


def host_package(version: str, source: str) -> Package:
    """The support package: the reconcile step, its unit, its settings. `source` is the folder of those files."""
    kept = ("claims", "claims/name", "claims/fqdn", "claims/mac", "claims/ip", "guests", "bases")
    leaving = f'exec {RECONCILE} before-leaving "$1"\n'
    return Package(
        name="tawara-vm-host",
        version=version,
        summary="Runs packaged machines: defines, starts and removes the guests that packages bring",
        arch="all",
        files=(
            Packaged(f"{source}/reconcile", RECONCILE, 0o755),
            Packaged(f"{source}/tawara-vm-reconcile.service", "/usr/lib/systemd/system/tawara-vm-reconcile.service"),
            Packaged(
                "../tawara-vm-reconcile.service",
                "/usr/lib/systemd/system/multi-user.target.wants/tawara-vm-reconcile.service",
                link=True,
            ),
            Packaged(f"{source}/ssh_config", "/etc/ssh/ssh_config.d/tawara-vm.conf", config=True),
            Packaged(f"{source}/host.conf", "/etc/tawara-vm/host.conf", config=True),
        ),
        directories=("/etc/tawara-vm", "/usr/lib/tawara-vm", STATE, *(f"{STATE}/{name}" for name in kept)),
        deb_depends=(
            *("libvirt-daemon-system", "libvirt-clients", "qemu-system-x86", "qemu-utils"),
            *("dnsmasq-base", "dnsmasq-utils", "iptables", "e2fsprogs", "util-linux"),
        ),
        rpm_recommends=(
            "libvirt-daemon-kvm",
            "libvirt-client",
            "qemu-kvm",
            "qemu-img",
            "dnsmasq",
            "dnsmasq-utils",
            "e2fsprogs",
        ),
        scripts={
            "deb:preremove": leaving,
            "rpm:preremove": leaving,
            "deb:postinstall": f"exec {RECONCILE} installed\n",
            "deb:postremove": f'[ "$1" != purge ] || {{ {_SWEEP}; }}\n',
            "rpm:posttrans": f"exec {RECONCILE} installed\n",
        },
    )


def base_package(name: str, digest: str, version: str, summary: str, folder: str, files: tuple[str, ...]) -> Package:
    """A base: its disk, kernel and ram disk. Its name holds its digest, so several live side by side."""
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
    """A delta that several guests of a cluster stand on, packed once."""
    place = f"{STATE}/bases/{digest}"
    return Package(
        name=f"tawara-delta-{digest}",
        version=version,
        summary="What several packaged machines have in common beyond their base",
        files=(Packaged(disk, f"{place}/disk.qcow2"),),
        directories=(place,),
        depends=("tawara-vm-host",),
    )


def cluster_package(name: str, version: str, guests: tuple[tuple[str, str], ...], table: str) -> Package:
    """The meta package. Its guests need it as it needs them, so that removing it takes them all away."""
    return Package(
        name=f"tawara-cluster-{name}",
        version=version,
        summary=f"Packaged data centre {name}: {len(guests)} guests",
        files=(Packaged(table, f"{STATE}/clusters/{name}.json"),),
        directories=(f"{STATE}/clusters",),
        depends=("tawara-vm-host",),
        exact=guests,
    )


def guest_package(
    name: str,
    version: str,
    summary: str,
    depends: tuple[str, ...],
    folder: str,
    files: dict[str, int],
    claims: tuple[str, ...],
) -> Package:
    """One guest: its definition, its delta, its claims. `files` are those in the folder, with their modes."""
    place = f"{STATE}/guests/{name}"
    absent = f"[ -x {RECONCILE} ] || "
    purged = f"rm -rf {STATE}/instances/{name}; {_SWEEP}"
    return Package(
        name=f"tawara-guest-{name}",
        version=version,
        summary=summary,
        files=(
            *(Packaged(f"{folder}/{file}", f"{place}/{file}", mode) for file, mode in files.items()),
            *(Packaged(f"{folder}/claims/{claim}", f"{STATE}/claims/{claim}") for claim in claims),
        ),
        directories=(place, f"{place}/networks"),
        depends=("tawara-vm-host", *depends),
        scripts={
            "deb:postinstall": f"{absent}exit 0\nexec {RECONCILE} installed\n",
            "rpm:posttrans": f"{absent}exit 0\nexec {RECONCILE} installed\n",
            "deb:postremove": f'{absent}{{ [ "$1" != purge ] || {{ {purged}; }}; exit 0; }}\n'
            f'exec {RECONCILE} after-remove {name} "$1"\n',
            "rpm:postremove": f'{absent}exit 0\nexec {RECONCILE} after-remove {name} "$1"\n',
        },
    )
