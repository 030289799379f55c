"""Which gateway caches a file: the same answer at every gateway that knows the same gateways.

By rendezvous hashing: each gateway has a score for the file, and the highest wins. When a gateway is gone only its own
files move, evenly to all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection


def cache_owner(gateways: Collection[str], fid: int) -> str:
    """Return the one of `gateways`, named by their addresses, that caches `fid`; there is at least one."""
    return max(gateways, key=lambda each: hashlib.blake2b(f"{each}/{fid}".encode(), digest_size=8).digest())
