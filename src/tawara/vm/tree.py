"""A file tree as a value: the content of an image before any disk is written, and the changes between two trees."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

Kind = Literal["file", "directory", "symlink", "char", "block", "fifo"]


@dataclass(frozen=True)
class Node:
    """One file, without its name. Times are not stored: every image gets one fixed time."""

    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    content: bytes = b""
    """A file's bytes, or a symlink's target."""
    device: tuple[int, int] = (0, 0)


Tree = Mapping[str, Node]
"""Paths without a leading slash, mapped to what is there. The root itself is not named."""

_TAR_KINDS: dict[bytes, Kind] = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}


def file(content: bytes | str, mode: int = 0o644) -> Node:
    """Return a plain file that root owns."""
    return Node("file", mode, content=content.encode() if isinstance(content, str) else content)


def directory(mode: int = 0o755) -> Node:
    """Return a directory that root owns."""
    return Node("directory", mode)


def symlink(target: str) -> Node:
    """Return a symbolic link."""
    return Node("symlink", 0o777, content=target.encode())


def read_tar(stream: BinaryIO) -> dict[str, Node]:
    """Return every file of a tar archive; hard links become separate files."""
    found: dict[str, Node] = {}
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            path = clean(member.name)
            if not path:
                continue
            mode, uid, gid = member.mode & 0o7777, member.uid, member.gid
            if member.islnk():
                found[path] = found[clean(member.linkname)]
            elif member.isreg():
                content = archive.extractfile(member)
                found[path] = Node("file", mode, uid, gid, content.read() if content else b"")
            else:
                kind = _TAR_KINDS[member.type]
                target = member.linkname.encode() if kind == "symlink" else b""
                device = (member.devmajor, member.devminor) if kind in ("char", "block") else (0, 0)
                found[path] = Node(kind, mode, uid, gid, target, device)
    return found


def write_tar(tree: Tree, epoch: int, first: Iterable[str] = ()) -> bytes:
    """Return the tree as a tar archive, always the same bytes: the `first` paths, then the rest sorted."""
    buffer = io.BytesIO()
    types = {kind: type_ for type_, kind in _TAR_KINDS.items()}
    lead = list(first)
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in [*lead, *sorted(set(tree) - set(lead))]:
            node = tree[path]
            member = tarfile.TarInfo(path)
            member.mode, member.uid, member.gid, member.mtime = node.mode, node.uid, node.gid, epoch
            if node.kind == "file":
                member.size = len(node.content)
                archive.addfile(member, io.BytesIO(node.content))
                continue
            member.type = types[node.kind]
            member.linkname = node.content.decode()
            member.devmajor, member.devminor = node.device
            archive.addfile(member)
    return buffer.getvalue()


def with_parents(tree: Tree, existing: Tree | None = None) -> dict[str, Node]:
    """Return the tree with every missing parent directory added; those in `existing` count as present."""
    whole = dict(tree)
    for path in tree:
        for parent in PurePosixPath(path).parents:
            name = str(parent)
            if name != "." and name not in whole and name not in (existing or {}):
                whole[name] = directory()
    return whole


def resolved(tree: Tree, lower: Tree) -> dict[str, Node]:
    """Return the tree with its paths resolved through the symlinked directories of the tree below (`bin/x` →
    `usr/bin/x`)."""
    found: dict[str, Node] = {}
    for path, node in tree.items():
        parts = PurePosixPath(path).parts
        real = ""
        for part in parts[:-1]:
            real = _follow(lower, f"{real}/{part}".lstrip("/"))
        found[f"{real}/{parts[-1]}".lstrip("/")] = node
    return found


def differences(old: Tree, new: Tree) -> tuple[dict[str, Node], list[str]]:
    """Return what must be written over the old tree, and removed from it (deepest first), to get the new one."""
    changed = {path: node for path, node in new.items() if old.get(path) != node}
    removed = sorted((path for path in old if path not in new), reverse=True)
    return changed, removed


def clean(name: str) -> str:
    """Return a tar member's name as a tree path."""
    path = name.removeprefix("./").strip("/")
    return "" if path == "." else path


def _follow(tree: Tree, path: str, depth: int = 8) -> str:
    node = tree.get(path)
    if node is None or node.kind != "symlink" or not depth:
        return path
    target = node.content.decode()
    joined = target.lstrip("/") if target.startswith("/") else str(PurePosixPath(path).parent / target)
    return _follow(tree, clean(joined), depth - 1)
