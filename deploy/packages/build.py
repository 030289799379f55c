"""Builds the packages `tawara` (.deb and .rpm) and a repository of them: `make packages`.

A package has the libraries of requirements.lock inside, for each version of Python from 3.11 to 3.13, and depends on
the system's Python only. The same sources give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tawara
from deploy.packages.documentation import completion_scripts, man_pages
from tawara.cli.configuration import Configuration, GatewaySection, MonitoringSection, NodeSection, StoreSection, render
from tawara.vm.build import build_epoch
from tawara.vm.package_manifest import Package, Packaged
from tawara.vm.packager import build_package, index_repository

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")
PLACE = "/usr/lib/tawara"
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_5_x86_64")
_DATA = re.compile(r"^[^/]+\.data/(purelib|platlib)/")
"""Where a wheel may have files that belong beside the others; what else is in such a directory is not used."""
_COMPONENTS = ("tracker", "node", "gateway", "workers")

LAUNCHER = f"""\
#!/bin/sh
# Run Tawara by the newest Python for which its package has libraries.
for version in {" ".join(reversed(PYTHONS))}; do
    if [ -d {PLACE}/python$version ] && [ -x /usr/bin/python$version ]; then
        exec /usr/bin/python$version -I {PLACE}/run.py "$@"
    fi
done
echo "tawara: it needs Python {PYTHONS[0]} to {PYTHONS[-1]} in /usr/bin." >&2
exit 2
"""
RUN = f"""\
# Run the command with the libraries of its package, whatever else is installed.
import sys

sys.path[:0] = ["{PLACE}/common", f"{PLACE}/python{{sys.version_info[0]}}.{{sys.version_info[1]}}"]
from tawara.cli import main

sys.exit(main())
"""
_INSTALLED = f"""\
if command -v systemd-sysusers >/dev/null 2>&1; then
    systemd-sysusers /usr/lib/sysusers.d/tawara.conf
elif ! getent passwd tawara >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/tawara --no-create-home --shell /usr/sbin/nologin tawara
fi
for each in /var/lib/tawara /srv/tawara; do
    [ -d $each ] || install -d -o tawara -g tawara -m 0750 $each
done
if [ ! -e /etc/tawara/secret.key ]; then
    new=/etc/tawara/secret.key.new
    (umask 077; head -c 32 /dev/urandom | base64 >$new)
    chown tawara:tawara $new
    mv $new /etc/tawara/secret.key
fi
for version in {" ".join(reversed(PYTHONS))}; do
    if [ -d {PLACE}/python$version ] && [ -x /usr/bin/python$version ]; then
        for each in {PLACE}/common {PLACE}/python$version; do
            [ ! -d $each ] || /usr/bin/python$version -m compileall -q -j 0 -x /pygments/lexers/ $each || true
        done
        break
    fi
done
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    systemctl try-restart 'tawara@*.service' || true
fi
"""
_REMOVING = """\
if [ -d /run/systemd/system ]; then systemctl stop 'tawara@*.service' || true; fi
"""
_COMPILED = f"find {PLACE} -name __pycache__ -prune -exec rm -rf {{}} + 2>/dev/null || true\n"
_RELOAD = "if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi\n"


def main() -> None:
    """Build into dist/packages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "dist/packages")
    parser.add_argument("--python", action="append", help="build for this version only; may be repeated")
    parser.add_argument("--kind", action="append", choices=("deb", "rpm"), help="build this kind only")
    parser.add_argument("--compression", default="zstd")
    parser.add_argument("--sign", metavar="KEY", help="sign the repository by this key of gpg")
    parser.add_argument(
        "--installed", action="store_true", help="pack the libraries of this environment; needs --python of its version"
    )
    options = parser.parse_args()
    pythons, kinds = tuple(options.python or PYTHONS), tuple(options.kind or ("deb", "rpm"))
    with tempfile.TemporaryDirectory() as name:
        package = make_package(Path(name), pythons, options.compression, installed=options.installed)
        made = build_package(package, options.out, build_epoch(), kinds)
    if set(kinds) == {"deb", "rpm"}:
        index_repository(options.out, build_epoch(), options.sign)
    for each in made:
        print(each)


def make_package(folder: Path, pythons: Sequence[str], compression: str, *, installed: bool = False) -> Package:
    """Return the package; its files that are made are in `folder`.

    `installed`: take the libraries from this environment instead of wheels, for tests, which then need no network.
    """
    sites = {version: folder / f"python{version}" for version in pythons}
    own = _own_wheel(folder)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda version: _fill(sites[version], version, own, installed=installed), pythons))
    files = _shared_and_separate(sites)
    made: dict[str, tuple[str, int]] = {
        "/usr/bin/tawara": (LAUNCHER, 0o755),
        f"{PLACE}/run.py": (RUN, 0o644),
        "/etc/tawara/tawara.toml": (render(_configuration()), 0o644),
        **{path: (text, 0o644) for path, text in (man_pages() | completion_scripts()).items()},
    }
    for number, (target, (text, mode)) in enumerate(made.items()):
        source = folder / f"made{number}"
        source.write_text(text)
        files.append(Packaged(str(source), target, mode, config=target.startswith("/etc/")))
    return Package(
        name="tawara",
        version=tawara.__version__.replace(".dev", "~dev"),
        summary="A replicated file store for web applications, and virtual machines as packages",
        files=tuple(sorted([*files, *_shipped()], key=lambda each: each.target)),
        directories=("/etc/tawara",),
        deb_depends=(_python_of_debian(pythons), "passwd"),
        rpm_recommends=("python3 >= 3.11",),
        conflicts=("tawara-vm",),
        scripts={
            "deb:postinstall": f'[ "$1" = configure ] || exit 0\n{_INSTALLED}',
            "rpm:postinstall": _INSTALLED,
            "deb:preremove": f'[ "$1" != remove ] || {{ {_REMOVING.strip()}; }}\n{_COMPILED}',
            "rpm:preremove": f'[ "$1" != 0 ] || {{ {_REMOVING.strip()}; {_COMPILED.strip()}; }}\n',
            "deb:postremove": _RELOAD,
            "rpm:postremove": _RELOAD,
        },
        compression=compression,
    )


def _python_of_debian(pythons: Sequence[str]) -> str:
    return " | ".join(f"python{version}" for version in reversed(pythons))


def _configuration() -> Configuration:
    state = "/var/lib/tawara"
    return Configuration(
        store=StoreSection(database=f"sqlite:{state}/tawara.db"),
        node=NodeSection(devices="/srv/tawara"),
        gateway=GatewaySection(state=f"{state}/nginx"),
        monitoring=MonitoringSection(
            **{each: f"127.0.0.1:{7601 + number}" for number, each in enumerate(_COMPONENTS)}, drain_seconds=5
        ),
    )


def _shipped() -> list[Packaged]:
    """Return the files that are shipped as they are in the sources."""
    units = ROOT / "deploy/systemd"
    found = {
        units / "tawara@.service": "/usr/lib/systemd/system/tawara@.service",
        units / "sysusers.conf": "/usr/lib/sysusers.d/tawara.conf",
        units / "tmpfiles.conf": "/usr/lib/tmpfiles.d/tawara.conf",
        ROOT / "deploy/prometheus/tawara.rules.yml": "/usr/share/tawara/prometheus/tawara.rules.yml",
        ROOT / "deploy/grafana/tawara.json": "/usr/share/tawara/grafana/tawara.json",
        ROOT / "LICENSE": "/usr/share/doc/tawara/LICENSE",
        ROOT / "README.md": "/usr/share/doc/tawara/README.md",
        **{page: f"/usr/share/doc/tawara/docs/{page.name}" for page in (ROOT / "docs").glob("*.md")},
        **{
            path: f"/usr/lib/systemd/system/tawara@{path.stem}.service.d/10-package.conf"
            for path in units.glob("*.dropin")
        },
    }
    return [Packaged(str(source), target) for source, target in found.items()]


def _own_wheel(folder: Path) -> Path:
    run = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*run, str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("tawara-*.whl")
    return wheel


def _fill(site: Path, version: str, own: Path, *, installed: bool) -> None:
    """Unpack Tawara and what it needs with this version of Python into `site`."""
    site.mkdir()
    if installed:
        _copy_installed(site, version)
    for wheel in (own, *([] if installed else _wheels(version))):
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                place = _DATA.sub("", entry.filename)
                top, _, rest = place.partition("/")
                if entry.is_dir() or top.endswith(".data") or rest in ("RECORD", "INSTALLER", "REQUESTED"):
                    continue
                path = site / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(entry))
                path.chmod(0o755 if entry.external_attr >> 16 & 0o111 and path.suffix != ".so" else 0o644)


def _copy_installed(site: Path, version: str) -> None:
    """Copy the libraries of this environment into `site`."""
    if version != f"{sys.version_info[0]}.{sys.version_info[1]}":
        raise SystemExit(f"--installed: this is not Python {version}")
    for name in sorted(_closure(version)):
        for file in importlib.metadata.files(name) or []:
            if ".." in file.parts or "__pycache__" in file.parts:
                continue
            path = site.joinpath(*file.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), path)
            path.chmod(0o755 if "bin" in file.parts else 0o644)


def _wheels(version: str) -> list[Path]:
    """Return the wheels that Tawara needs, downloaded to build/wheels and checked by their hashes."""
    place = ROOT / "build/wheels" / version
    wanted = _locked(_closure(version), version)
    names = place / "requirements.txt"
    if not names.exists() or names.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        draft = place / "requirements.new"
        draft.write_text(wanted)
        run = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        run += ["--require-hashes", "--only-binary", ":all:", "--python-version", version, "--implementation", "cp"]
        run += [f"--platform={each}" for each in _PLATFORMS]
        subprocess.run([*run, "--dest", str(place), "--requirement", str(draft)], check=True)
        draft.rename(names)
    return sorted(place.glob("*.whl"))


def _closure(version: str) -> set[str]:
    """Return the names of the distributions that Tawara needs at run time with this version of Python."""
    environment = cast("dict[str, str]", default_environment())
    environment |= {"python_version": version, "python_full_version": f"{version}.0", "extra": ""}
    found: set[str] = set()
    ahead = ["tawara"]
    while ahead:
        for text in importlib.metadata.requires(ahead.pop()) or []:
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate(environment):
                continue
            name = canonicalize_name(requirement.name)
            if name not in found:
                found.add(name)
                ahead += [name] if _is_installed(name) else []
    return found


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _locked(names: set[str], version: str) -> str:
    """Return the entries of requirements.lock of these names, without their markers."""
    found = []
    for entry in re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text()):
        match = re.match(r"([A-Za-z0-9._-]+)==(\S+)( ; [^\\]*)?", entry)
        if match and canonicalize_name(match[1]) in names:
            requirement = Requirement(match[0].replace(" ; ", ";").strip())
            environment: Mapping[str, str] = {"python_version": version, "python_full_version": f"{version}.0"}
            if requirement.marker is None or requirement.marker.evaluate(dict(environment)):
                found.append(entry.replace(match[3] or "", "") if match[3] else entry)
    missing = names - {canonicalize_name(each.partition("==")[0]) for each in found}
    if missing:
        raise SystemExit(f"requirements.lock does not have {', '.join(sorted(missing))}; run make lock")
    return "\n".join(found) + "\n"


def _shared_and_separate(sites: Mapping[str, Path]) -> list[Packaged]:
    """Return the files of all sites: a module that is the same in each is packed once, as common."""
    tops = {version: {each.name for each in site.iterdir()} for version, site in sites.items()}
    everywhere = set.intersection(*tops.values()) if len(sites) > 1 else set()
    first = next(iter(sites.values()))
    common = {name for name in everywhere if len({_content(site / name) for site in sites.values()}) == 1}
    found = [(first / name, f"{PLACE}/common/{name}") for name in common]
    for version, site in sites.items():
        found += [(site / name, f"{PLACE}/python{version}/{name}") for name in tops[version] - common]
    files = []
    for source, target in found:
        paths = [source] if source.is_file() else sorted(each for each in source.rglob("*") if each.is_file())
        for path in paths:
            inside = "" if path == source else f"/{path.relative_to(source)}"
            files.append(Packaged(str(path), f"{target}{inside}", path.stat().st_mode & 0o777))
    return files


def _content(place: Path) -> tuple[tuple[str, bytes], ...]:
    paths = [place] if place.is_file() else sorted(each for each in place.rglob("*") if each.is_file())
    return tuple((str(path.relative_to(place.parent)), path.read_bytes()) for path in paths)


if __name__ == "__main__":
    main()
