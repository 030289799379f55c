"""Where a fid lies on a device: the path that trackers, nodes and MogileFS agree on (docs/mogilefs.md 8.4)."""

from __future__ import annotations

import re

HIGHEST = 2**63 - 1
"""That a database can hold."""
COUNTED = 2**53 - 1
"""Greatest fid from which the counter goes on. No counter gets there by counting, so a greater one comes from outside
(a client's `fid=`, a name on a device, a backup): such a file is kept, and new fids are given out below it."""
STEP = 1_000_000
"""Fids by which a client's `fid=` may exceed the greatest that is known."""
HIGHEST_ID = 2**31 - 1
"""Greatest devid, hostid, dmid and classid that a database can hold."""
_IDS = frozenset({"devid", "hostid", "dmid", "classid", "fromdevid"})
_PATH = re.compile(r"/dev(\d+)/(\d)/(\d{3})/(\d{3})/(\d{10,20})\.fid")


def fits(column: str, value: object) -> bool:
    """Whether a value may stand in a column of this name; what is no number may."""
    if not isinstance(value, int):
        return True
    return 0 <= value <= HIGHEST_ID if column in _IDS else -HIGHEST <= value <= HIGHEST


def relative_path(fid: int) -> str:
    """The path of `fid` below its device's directory: `0/000/000/0000000001.fid` for 1.

    The directories are the first seven digits of the fid, padded to ten; a longer fid keeps all its digits in the name.
    """
    digits = f"{fid:010d}"
    return f"{digits[0]}/{digits[1:4]}/{digits[4:7]}/{digits}.fid"


def path(devid: int, fid: int) -> str:
    """The path of `fid` on device `devid` as a storage node serves it, with its leading slash."""
    return f"/dev{devid}/{relative_path(fid)}"


def parse_path(text: str) -> tuple[int, int] | None:
    """`(devid, fid)` of a path as `path` makes it, None for any other text, and for what is too great for a fid."""
    match = _PATH.fullmatch(text)
    if match is None:
        return None
    devid, fid = int(match[1]), int(match[5])
    return (devid, fid) if fid <= HIGHEST and path(devid, fid) == text else None
