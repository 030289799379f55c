"""A built repository as files to publish: whether it is complete, and in which order its files are uploaded.

Indexes name files by their checksum, so a reader must never find an index before the files that it names.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tawara.vm.errors import BuildError

_BUILD = "Build it again: tawara vm build NAME.toml"
_BY_CONTENT = re.compile(r"by-hash/.+|repodata/[0-9a-f]{32,128}-.+")
_SIGNATURES = ("Release.gpg", "key.asc", "repodata/repomd.xml.asc")
_HEADS = ("Release", "InRelease", "repodata/repomd.xml")
"""The files that apt and dnf read first; replacing them publishes everything else."""


def publication_stages(names: Iterable[str]) -> list[list[str]]:
    """Return the files in the order in which they are uploaded; those of a stage may be uploaded at the same time.

    First the packages, then indexes that are named by their content (no reader asks for them yet), then those with
    fixed names, signatures, and last the files that are read first.
    """
    stages: list[list[str]] = [[] for _ in range(5)]
    for name in sorted(names):
        stages[_stage_of(name)].append(name)
    return [stage for stage in stages if stage]


def _stage_of(name: str) -> int:
    if name in _HEADS:
        return 4
    if name in _SIGNATURES:
        return 3
    if _BY_CONTENT.fullmatch(name):
        return 1
    return 0 if name.endswith((".deb", ".rpm")) else 2


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """What an index says of a file."""

    size: int
    """Bytes."""
    sha256: str
    """In hex."""


def repository_files(folder: Path) -> dict[str, IndexedFile | None]:
    """Return the files of a built repository, relative to it, with what its indexes say of each.

    Raises BuildError if it is none, or if a file is missing or another one than an index names. Reads all of it.
    """
    if not (folder / "Release").is_file():
        raise BuildError(f"{folder} is not a repository: it has no file Release", hint=_BUILD)
    named = named_files(lambda name: (folder / name).read_bytes() if (folder / name).is_file() else None)
    for name, file in named.items():
        path = folder / name
        if not path.is_file():
            raise BuildError(f"{folder}: {name} is missing, which an index names", hint=_BUILD)
        with path.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != file.sha256:
                raise BuildError(f"{folder}: {name} is another file than the index names", hint=_BUILD)
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = sorted(str(path) for path in found if not any(part.startswith(".") for part in path.parts))
    return {name: named.get(name) for name in names}


def named_files(read: Callable[[str], bytes | None]) -> dict[str, IndexedFile]:
    """Return the files that the indexes of a repository name; `read` returns a file of it, None if there is none."""
    named: dict[str, IndexedFile] = {}
    for name, parse in (("Release", _in_release), ("Packages", _in_packages), ("repodata/repomd.xml", _in_repomd)):
        if (content := read(name)) is not None:
            named |= parse(content)
    for name in [name for name in named if name.endswith("-primary.xml.gz")]:
        if (content := read(name)) is not None:
            named |= _in_primary(gzip.decompress(content))
    return named


def _in_release(content: bytes) -> dict[str, IndexedFile]:
    text = content.decode()
    named = {}
    for digest, size, name in re.findall(r"^ ([0-9a-f]{64}) +(\d+) (\S+)$", text, re.MULTILINE):
        named[name] = IndexedFile(int(size), digest)
        if "Acquire-By-Hash: yes" in text:
            named[f"by-hash/SHA256/{digest}"] = named[name]
    return named


def _in_packages(content: bytes) -> dict[str, IndexedFile]:
    stanzas = content.decode().split("\n\n")
    fields = [dict(re.findall(r"^(\S+): (.*)$", stanza, re.MULTILINE)) for stanza in stanzas]
    return {
        each["Filename"].removeprefix("./"): IndexedFile(int(each["Size"]), each["SHA256"])
        for each in fields
        if "Filename" in each
    }


def _in_repomd(content: bytes) -> dict[str, IndexedFile]:
    space = "{http://linux.duke.edu/metadata/repo}"
    return dict(_named_by(data, space, "") for data in _parsed(content).iter(f"{space}data"))


def _in_primary(content: bytes) -> dict[str, IndexedFile]:
    space = "{http://linux.duke.edu/metadata/common}"
    return dict(_named_by(package, space, "package") for package in _parsed(content).iter(f"{space}package"))


def _named_by(element: Element, space: str, size_attribute: str) -> tuple[str, IndexedFile]:
    """Return what createrepo_c says of one file; it writes SHA-256 checksums."""
    location, size, checksum = (element.find(f"{space}{name}") for name in ("location", "size", "checksum"))
    if location is None or size is None or checksum is None:
        raise BuildError("repodata does not say where a file is, its size or its checksum", hint=_BUILD)
    bytes_ = size.get(size_attribute) if size_attribute else size.text
    return location.get("href", ""), IndexedFile(int(bytes_ or 0), checksum.text or "")


def _parsed(content: bytes) -> Element:
    return ElementTree.fromstring(content)  # noqa: S314 - createrepo_c wrote it, and expat bounds entities
