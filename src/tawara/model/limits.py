"""Every limit of the store in one place: what is accepted, how much of it, and for how long.

Sizes are bytes, times are seconds. The configuration may lower or raise those that `Limits` names; the constants belong
to the formats and cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEY_BYTES: Final = 1024
"""Longest key, in bytes of UTF-8."""
NAME_BYTES: Final = 255
"""Longest domain name (schema: `domain.namespace`)."""
CLASS_NAME_BYTES: Final = 50
"""Longest class name (schema: `class.classname`)."""
HOST_NAME_BYTES: Final = 40
"""Longest host name (schema: `host.hostname`)."""
LIST_KEYS: Final = 1000
"""Most keys in one answer to list_keys."""
LIST_FIDS: Final = 500
"""Most fids in one answer to list_fids."""
DESTINATIONS: Final = 3
"""Most devices offered to an upload by create_open with multi_dest."""
REPLICAS_TRIED: Final = 6
"""Most replicas that the gateway tries for one read."""
NODE_PATH_BYTES: Final = 1024
"""Longest path on a storage node, in bytes."""
END_OF_TIME: Final = 2**31 - 1
"""`nexttry` of a row that needs manual intervention (unix time)."""

FIDS_SKIPPED: Final = 100_000
"""Fids left out when a device turns out to hold other content under one that was just given out."""

FAILCOUNT: Final = 255
"""Failures up to which a queue's row counts (schema: `failcount`, one byte wide where MogileFS made it)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may ask of a server before it is refused, slowed down or cut off."""

    line: int = 256 * 1024
    """Longest request line that a tracker or side channel reads; a longer one ends the connection."""
    pipelined: int = 64 * 1024
    """Bytes of not yet answered requests kept per tracker connection before reading pauses; at least one line."""
    connections: int = 12_000
    """Open connections per server; when they are that many, idle ones are closed for newcomers, else these wait."""
    open_files_share: float = 0.75
    """Part of the process's limit of open files that the connections of one server may take."""
    tracker_idle: float = 3600.0
    """Time after which a tracker closes a connection on which nothing was asked; 0: never. One that watches stays."""
    side_channels: int = 512
    """Open connections to a node's side channel; further ones wait in the backlog."""
    side_channel_idle: float = 600.0
    """Time after which a side channel on which nothing was asked is closed; a `watch` stays open."""
    unread_answer: float = 120.0
    """Time that a peer may leave answers unread before it is cut off."""
    header: int = 16 * 1024
    """Bytes of HTTP request line, and of each header field."""
    headers: int = 64 * 1024
    """Bytes of an HTTP request's line and header fields together."""
    header_time: float = 20.0
    """Time within which a request's header must have arrived once its connection is open or its first byte is there."""
    stalled_body: float = 60.0
    """Time that a body may stand still, in either direction, before the transfer is given up."""
    node_connect: float = 2.0
    """Time that a storage node may take to accept a connection before the gateway's nginx takes the next replica."""
    node_answer: float = 10.0
    """Time that a storage node may take to begin an answer, or to continue it, before the next replica is taken."""
    upload: int = 64 * 1024**4
    """Largest file."""
    upload_open: int = 3600
    """Time between create_open and create_close; later the upload is swept."""
    chunk: int = 1024 * 1024
    """Unit in which bytes are read, hashed and sent."""
