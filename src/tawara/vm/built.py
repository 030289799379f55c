"""The record of a directory of packages: which versions were built with which content, and the claims of the newest of
each. A built version never changes, because package managers do not replace a package by its own version; and two
packages of one repository with a common claim could never be installed on one host. Both are refused at build time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tawara.vm.errors import BuildError

_FILE = ".built"


@dataclass
class _Known:
    """One package: content digests by version, and the claims of its last build."""

    versions: dict[str, str] = field(default_factory=dict)
    claims: dict[str, str] = field(default_factory=dict)


class Register:
    """The record of one directory; `save` writes it when the packages exist."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._folder = folder
        self._known = {name: _Known(**facts) for name, facts in _read(self._path).items()}

    def add(
        self,
        package: str,
        version: str,
        content: str,
        claims: Mapping[str, str],
        *,
        delta: str = "",
        clashes: bool = False,
    ) -> None:
        """Record a package. `claims`: its claims and, if packages may share one, its definition; `delta`: the digest by
        which older records know a version. Raises BuildError for another content of a built version, and, unless
        `clashes` are allowed, for a claim of another package in the directory."""
        known = self._known.setdefault(package, _Known())
        if known.versions.get(version, content) not in (content, delta):
            raise BuildError(
                f"{package} {version} was built before with other contents", hint="Raise `version` in the description."
            )
        taken = [] if clashes else sorted(self._taken(package, claims))
        if taken:
            raise BuildError(
                f"{package} claims what another package in {self._folder} has:\n  " + "\n  ".join(taken),
                hint="Give it another name, address or subnet. Packages for different hosts may have the same:"
                " build them into another folder with --out, or say --allow-clashes.",
            )
        known.versions[version] = content
        known.claims = dict(claims)

    def save(self) -> None:
        """Write the record atomically."""
        facts = {name: vars(known) for name, known in sorted(self._known.items())}
        draft = self._path.with_name(f"{_FILE}.new")
        with draft.open("w") as file:
            file.write(json.dumps(facts, indent=1, sort_keys=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    def _taken(self, package: str, claims: Mapping[str, str]) -> list[str]:
        found = []
        for other, known in self._known.items():
            if other == package or not any(self._folder.glob(f"{other}[-_][0-9]*")):
                continue
            common = claims.keys() & known.claims.keys()
            found += [
                f"{claim.replace('/', ' ', 1)}: {other}"
                for claim in common
                if claims[claim] == "" or claims[claim] != known.claims[claim]
            ]
        return found


def digest_of(files: Mapping[str, bytes], *more: str) -> str:
    """Return a digest over the content of a package."""
    whole = hashlib.sha256()
    for name, content in [*sorted(files.items()), *((text, b"") for text in more)]:
        for part in (name.encode(), content):
            whole.update(len(part).to_bytes(8, "big") + part)
    return whole.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    text = path.read_text()
    if text.startswith("{"):
        known: dict[str, Any] = json.loads(text)
        return known
    # Before it was JSON: a line `PACKAGE=VERSION DIGEST-OF-THE-DELTA` for each version.
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, _, digest = line.rpartition(" ")
        package, _, version = name.rpartition("=")
        found.setdefault(package, {"versions": {}, "claims": {}})["versions"][version] = digest
    return found
