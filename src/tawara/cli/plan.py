"""Pure decisions for put and get: which file is stored under which key, or written to which path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tawara.cli import STREAM
from tawara.client.replies import FileInfo
from tawara.model import errors
from tawara.model.cluster import Checksum
from tawara.model.limits import KEY_BYTES

_NAME_BYTES = 255
"""Maximum bytes of a file name in common file systems."""


class UnsafeKey(errors.UsageError):
    """A key is not a path below the directory."""

    code = "unsafe_key"
    message = "The key is not a path below the directory"
    hint = "Fetch it alone, with a name of your own."


@dataclass(frozen=True, slots=True)
class PlannedUpload:
    """One file to store."""

    source: str
    """A path, or STREAM."""
    key: str
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file that was found for an argument of put."""

    argument: str
    path: str
    relative: str | None
    """Path below `argument`, if that is a directory."""
    size: int | None
    mtime_ns: int | None


def uploads(found: Iterable[FoundFile], target: str, *, single: bool) -> list[PlannedUpload]:
    """Return the key of each file. `single`: only one argument was given.

    A target that is empty or ends in `/` is a prefix: files go below it by their name, directories with their name,
    unless they were given with a `/` at their end. Any other target is the key of the one file, or the name that the
    one directory gets. Raises UsageError for several files with one key, and for keys that are too long.
    """
    prefix = not target or target.endswith("/")
    planned: dict[str, PlannedUpload] = {}
    for file in found:
        if not prefix and not single:
            raise errors.UsageError(f"Several files need a prefix: {target!r} does not end in '/'")
        if file.relative is None:
            if prefix and file.argument == STREAM:
                raise errors.UsageError("Standard input needs a key: write DOMAIN/KEY")
            key = target + PurePosixPath(file.path).name if prefix else target
        else:
            key = (target if prefix else target + "/") + _directory_part(file.argument, keep=prefix) + file.relative
        if not 0 < len(key.encode("utf-8", "surrogateescape")) <= KEY_BYTES:
            raise errors.UsageError(f"{file.path}: its key would be longer than {KEY_BYTES} bytes")
        if key in planned:
            raise errors.UsageError(f"{planned[key].source} and {file.path} would both be {key!r}")
        planned[key] = PlannedUpload(file.path, key, file.size, file.mtime_ns)
    return list(planned.values())


@dataclass(frozen=True, slots=True)
class PlannedCopy:
    """One stored file to copy."""

    domain: str
    key: str
    new_key: str

    @property
    def source(self) -> str:
        """The file as the user names it."""
        return f"{self.domain}/{self.key}"


def copies(found: Iterable[tuple[str, str, str]], domain: str, target: str, *, single: bool) -> list[PlannedCopy]:
    """Return the new key in `domain` of each file, given by domain, key and the name that it has below a prefix.

    `single`: only one file was named. A target that is empty or ends in `/` is a prefix, and any target is one unless
    `single`. Raises UsageError for several files with one key, for a file onto itself, and for bad keys.
    """
    prefix = not target or target.endswith("/")
    below = target if prefix else f"{target}/"
    planned: dict[str, PlannedCopy] = {}
    for source_domain, key, name in found:
        copy = PlannedCopy(source_domain, key, target if single and not prefix else below + name)
        if not name and (prefix or not single):
            raise errors.UsageError(f"{copy.source} has no name after its last '/'", hint="Name the key of the copy.")
        if not 0 < len(copy.new_key.encode("utf-8", "surrogateescape")) <= KEY_BYTES:
            raise errors.UsageError(f"{copy.source}: the key of its copy would be longer than {KEY_BYTES} bytes")
        if (source_domain, key) == (domain, copy.new_key):
            raise errors.UsageError(f"{copy.source} would be copied onto itself")
        if copy.new_key in planned:
            raise errors.UsageError(f"{planned[copy.new_key].source} and {copy.source} would both be {copy.new_key!r}")
        planned[copy.new_key] = copy
    return list(planned.values())


def _directory_part(argument: str, *, keep: bool) -> str:
    name = "" if argument.endswith("/") else PurePosixPath(argument).name
    return f"{name}/" if keep and name not in ("", ".", "..") else ""


def relative_path(key: str, prefix: str) -> PurePosixPath:
    """Return the path of `key` below the target directory when `prefix` is fetched: the part after its last `/`.

    Raises UnsafeKey if that is not a plain path below: empty, absolute, with `.`, `..` or empty parts, or with a part
    that file systems do not accept.
    """
    below = key[prefix.rfind("/") + 1 :] if key.startswith(prefix) else key
    parts = below.split("/")
    for part in parts:
        if part in ("", ".", ".."):
            raise UnsafeKey(f"The key {key!r} is not a path below a directory", hint="Fetch it by itself, with a FILE.")
        if "\0" in part or len(part.encode("utf-8", "surrogateescape")) > _NAME_BYTES:
            raise UnsafeKey(f"The key {key!r} cannot be a file's name", hint="Fetch it by itself, with a FILE.")
    return PurePosixPath(*parts)


def is_stored(file: PlannedUpload, info: FileInfo, *, by_checksum: bool) -> bool | None:
    """Return whether a local file is already stored; None if that depends on the checksum of `info`.

    The sizes must be equal, and so must the times: the file has exactly the time of the stored file, or the time that
    `get` gave it. A file that is merely older may be a different one. `by_checksum`: times are ignored.
    Values that cannot be compared are not equal.
    """
    if file.size is None or file.size != info.length:
        return False
    if not by_checksum and file.mtime_ns is not None and file.mtime_ns in (info.mtime_ns, *fetched_times(info)):
        return True
    return None if info.checksum is not None else False


def fetched_times(info: FileInfo) -> Sequence[int]:
    """Return the time (unix nanoseconds) that `get` sets on a file, then the same time in whole seconds.

    It is the time of storing; its microseconds are the fid, since a key may get two contents within a second.
    Empty if the tracker does not report when the file was stored.
    """
    if info.stored_at is None:
        return ()
    second = info.stored_at * 10**9
    return second + info.fid % 10**6 * 1000, second


def is_fetched(size: int, mtime_ns: int, info: FileInfo, digest: Checksum | None) -> bool:
    """Return whether a stored file need not be fetched again; see `fetched_times`."""
    if size != info.length:
        return False
    if digest is not None:
        return digest == info.checksum
    return mtime_ns in fetched_times(info)
