"""The paged list of a device's files, as storage nodes give it to a recovery.

`GET /devN/fids-D` has the fids of the directories from number D on, that is from fid D × 1,000: a line `FID BYTES` for
each, and a last line `next D` with where to go on, or `end`. A page has whole directories, so it needs no cursor within
one. Other storage nodes answer 404, for they have no such file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from tawara.model.fid import HIGHEST, relative_path

DIRECTORIES: Final = 10_000_000
"""Fids lie in directories of three levels, which are numbered by their seven digits."""
LARGEST: Final = 64 * 1024 * 1024
"""Bytes up to which a page is read."""
NAME: Final = re.compile(r"fids-(\d{1,7})", re.ASCII)
"""What a page's path is below the device."""
_LAST: Final = re.compile(rb"next (\d{1,7})|end")
_LINE: Final = re.compile(rb"(\d{1,20}) (\d{1,20})")


def path(devid: int, first: int) -> str:
    """Where the page is that begins with directory `first`."""
    return f"/dev{devid}/fids-{first}"


def directory_of(fid: int) -> int:
    """The number of the directory that a fid lies in."""
    return int(relative_path(fid)[:9].replace("/", ""))


def encode(found: Iterable[tuple[int, int]], following: int | None) -> bytes:
    """A page of these fids with their bytes; `following` is the directory to go on with, None at the end."""
    lines = [b"%d %d\n" % each for each in found]
    return b"".join(lines) + (b"end\n" if following is None else b"next %d\n" % following)


def decode(page: bytes, first: int) -> tuple[dict[int, int], int | None]:
    """The inverse, of the page that began with `first`. Raises ValueError for what is none, or not whole."""
    *lines, last = page.removesuffix(b"\n").split(b"\n")
    ended = _LAST.fullmatch(last)
    if ended is None or not page.endswith(b"\n"):
        raise ValueError("the page has no end")
    following = int(ended[1]) if ended[1] else None
    if following is not None and following <= first:
        raise ValueError("the list does not come to an end")
    found: dict[int, int] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or max(int(match[1]), int(match[2])) > HIGHEST:
            raise ValueError(f"a line makes no sense: {line[:50]!r}")
        found[int(match[1])] = int(match[2])
    if any(not first <= directory_of(fid) < (following or DIRECTORIES) for fid in found):
        raise ValueError("a fid does not belong there")
    return found, following
