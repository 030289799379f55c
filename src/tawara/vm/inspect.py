"""The metadata of a package file, in one form for .deb and .rpm: its files, dependencies and scripts."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tawara.vm.definition import STATE
from tawara.vm.errors import ImageError
from tawara.vm.run import run

_RPM_TAGS = ("NAME", "VERSION", "RELEASE", "ARCH", "SUMMARY", "SIZE")
_SEPARATOR = "\x1f"


def inspect(path: Path) -> dict[str, Any]:
    """Return the metadata of a package file. Raises ImageError if it is of neither kind."""
    with path.open("rb") as stream:
        magic = stream.read(8)
    if magic.startswith(b"!<arch>"):
        found = _deb(path)
    elif magic.startswith(b"\xed\xab\xee\xdb"):
        found = _rpm(path)
    else:
        raise ImageError(f"{path} is neither a .deb nor an .rpm")
    prefix = f"{STATE}/claims/"
    found["claims"] = sorted(name.removeprefix(prefix) for name in found["files"] if name.startswith(prefix))
    return found


def _deb(path: Path) -> dict[str, Any]:
    fields = dict(
        line.split(": ", 1) for line in run(["dpkg-deb", "-f", str(path)]).stdout.splitlines() if ": " in line
    )
    version, _, release = fields["Version"].partition("-")
    listing = (line.split() for line in run(["dpkg-deb", "-c", str(path)]).stdout.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        run(["dpkg-deb", "-e", str(path), folder])
        scripts = {name.name: name.read_text() for name in Path(folder).glob("p*") if name.is_file()}
    return {
        "format": "deb",
        "name": fields["Package"],
        "version": version,
        "release": release,
        "architecture": fields["Architecture"],
        "summary": fields.get("Description", "").splitlines()[0],
        "installed_bytes": int(fields.get("Installed-Size", "0")) * 1024,
        "requires": sorted(filter(None, fields.get("Depends", "").split(", "))),
        "files": sorted(row[5].removeprefix(".") for row in listing if not row[5].endswith("/")),
        "scripts": dict(sorted(scripts.items())),
    }


def _rpm(path: Path) -> dict[str, Any]:
    form = _SEPARATOR.join(f"%{{{tag}}}" for tag in _RPM_TAGS)
    query = ["rpm", "-qp", "--nosignature"]
    name, version, release, arch, summary, size = run([*query, "--qf", form, str(path)]).stdout.split(_SEPARATOR)
    modes = run([*query, "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]", str(path)]).stdout.splitlines()
    requires = run([*query, "--requires", str(path)]).stdout.splitlines()
    tags = ("PREIN", "POSTIN", "PREUN", "POSTUN", "PRETRANS", "POSTTRANS")
    texts = {tag: run([*query, "--qf", f"%|{tag}?{{%{{{tag}}}}}|", str(path)]).stdout for tag in tags}
    return {
        "format": "rpm",
        "name": name,
        "version": version,
        "release": release,
        "architecture": arch,
        "summary": summary,
        "installed_bytes": int(size),
        "requires": sorted(line for line in requires if not line.startswith("rpmlib(")),
        "files": sorted(row.split(" ", 1)[1] for row in modes if not row.startswith("d")),
        "scripts": {tag.lower(): text for tag, text in texts.items() if text},
    }
