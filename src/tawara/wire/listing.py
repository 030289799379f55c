"""Encodes the paged list of a device's files, which storage nodes serve for a recovery.

`GET /devN/fids-D` lists the fids in directory number D and later ones, that is from fid D × 1,000: a line `FID BYTES`
for each, and a last line `next D` with the directory to continue with, or `end`. A page has whole directories, so no
cursor within a directory is needed. Storage nodes of MogileFS reply 404.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from tawara.model.fid import HIGHEST, relative_path

DIRECTORIES: Final = 10_000_000
"""Number of directories for fids: three levels, numbered by their seven digits."""
LARGEST: Final = 64 * 1024 * 1024
"""Most bytes of a page that are read."""
NAME: Final = re.compile(r"fids-(\d{1,7})", re.ASCII)
"""Path of a page, relative to the device."""
_LAST: Final = re.compile(rb"next (\d{1,7})|end")
_LINE: Final = re.compile(rb"(\d{1,20}) (\d{1,20})")


def path(devid: int, first: int) -> str:
    """Return the path of the page that begins with directory `first`."""
    return f"/dev{devid}/fids-{first}"


def directory_of(fid: int) -> int:
    """Return the number of the directory that holds a fid."""
    return int(relative_path(fid)[:9].replace("/", ""))


def encode(found: Iterable[tuple[int, int]], following: int | None) -> bytes:
    """Encode a page of fids with sizes in bytes; `following` is the directory to continue with, None at the end."""
    lines = [b"%d %d\n" % each for each in found]
    return b"".join(lines) + (b"end\n" if following is None else b"next %d\n" % following)


def decode(page: bytes, first: int) -> tuple[dict[int, int], int | None]:
    """Decode the page that began with directory `first`. Raises ValueError if it is malformed or incomplete."""
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
