"""Maps fids to paths on a device, as MogileFS does (docs/mogilefs.md 8.4); limits of ids."""

from __future__ import annotations

import re

HIGHEST = 2**63 - 1
"""Greatest fid that a database can store."""
COUNTED = 2**53 - 1
"""Greatest fid that the counter continues from. No counter reaches it by counting, so a greater fid comes from outside
(a client's `fid=`, a file on a device, a backup): such a file is kept, and new fids are assigned below it."""
STEP = 1_000_000
"""Most by which a client's `fid=` may exceed the greatest known fid."""
HIGHEST_ID = 2**31 - 1
"""Greatest devid, hostid, dmid and classid that a database can store."""
_IDS = frozenset({"devid", "hostid", "dmid", "classid", "fromdevid"})
_PATH = re.compile(r"/dev(\d+)/(\d)/(\d{3})/(\d{3})/(\d{10,20})\.fid")


def fits(column: str, value: object) -> bool:
    """Whether a value fits into the database column of this name; a value that is not a number always does."""
    if not isinstance(value, int):
        return True
    return 0 <= value <= HIGHEST_ID if column in _IDS else -HIGHEST <= value <= HIGHEST


def relative_path(fid: int) -> str:
    """Return the path of a fid relative to its device's directory: `0/000/000/0000000001.fid` for 1.

    The directories are the first seven digits of the fid, padded to ten; a longer fid keeps all its digits in the name.
    """
    digits = f"{fid:010d}"
    return f"{digits[0]}/{digits[1:4]}/{digits[4:7]}/{digits}.fid"


def path(devid: int, fid: int) -> str:
    """Return the path of a fid on a device as its storage node serves it, with a leading slash."""
    return f"/dev{devid}/{relative_path(fid)}"


def parse_path(text: str) -> tuple[int, int] | None:
    """Parse a path made by `path` into `(devid, fid)`; None for any other text or too large a number."""
    match = _PATH.fullmatch(text)
    if match is None:
        return None
    devid, fid = int(match[1]), int(match[5])
    return (devid, fid) if fid <= HIGHEST and path(devid, fid) == text else None
