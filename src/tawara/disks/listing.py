"""Lists the files of a device by fid, in pages of whole directories (wire.listing).

Blocks. Directories are opened without following links. Concurrent changes may or may not be listed.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from tawara.model import fid as fids
from tawara.wire import listing

PAGE_FILES: Final = 5000
"""Files on a page after which no further directory is added."""
PAGE_SECONDS: Final = 0.5
"""Seconds after which no further directory is added; a slow disk gives small pages."""
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WIDTHS: Final = (1, 3, 3)
"""Digits of the directory names by level."""


def page(top: int, first: int) -> bytes:
    """Return the page of the device open as `top` that begins with directory `first`. Raises OSError."""
    found: list[tuple[int, int]] = []
    until = None
    for number, name in _directories(top, "", 0, first):
        if until is None:  # at least one directory, however long it takes
            until = time.monotonic() + PAGE_SECONDS
        elif len(found) >= PAGE_FILES or time.monotonic() > until:
            return listing.encode(found, number)
        found += _files(top, name)
    return listing.encode(found, None)


def _directories(top: int, above: str, number: int, first: int) -> Iterator[tuple[int, str]]:
    """Yield the file directories below `above` (with this number), starting at `first`, in order."""
    depth = above.count("/")
    if depth == len(_WIDTHS):
        yield number, above
        return
    width = _WIDTHS[depth]
    below = 10 ** sum(_WIDTHS[depth + 1 :])
    for name in sorted(_names(top, above)):
        if len(name) != width or not (name.isascii() and name.isdigit()):
            continue
        mine = number * 10**width + int(name)
        if (mine + 1) * below > first:
            yield from _directories(top, f"{above}{name}/", mine, first)


def _names(top: int, directory: str) -> list[str]:
    found = _opened(top, directory)
    if found is None:
        return []
    try:
        return os.listdir(found)  # noqa: PTH208 - a descriptor, no path
    finally:
        os.close(found)


def _files(top: int, directory: str) -> list[tuple[int, int]]:
    """List the fids in a directory with their sizes in bytes."""
    opened = _opened(top, directory)
    if opened is None:
        return []
    found: list[tuple[int, int]] = []
    try:
        for name in os.listdir(opened):  # noqa: PTH208 - a descriptor, no path
            place = fids.parse_path(f"/dev0/{directory}{name}")
            if place is None:
                continue
            with suppress(FileNotFoundError):
                facts = os.stat(name, dir_fd=opened, follow_symlinks=False)
                if stat.S_ISREG(facts.st_mode):
                    found.append((place[1], facts.st_size))
    finally:
        os.close(opened)
    return sorted(found)


def _opened(top: int, directory: str) -> int | None:
    """Open a directory below the device; None if it does not exist or is a link."""
    here = os.dup(top)
    try:
        for name in directory.split("/")[:-1]:
            below = os.open(name, _OPEN, dir_fd=here)
            os.close(here)
            here = below
    except OSError as error:
        os.close(here)
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise
    return here
