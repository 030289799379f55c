"""All limits of the store: lengths, amounts and times.

Sizes are bytes, times are seconds. The fields of `Limits` are configurable; the constants are part of the formats and
cannot change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KEY_BYTES: Final = 1024
"""Longest key, in bytes of UTF-8."""
NAME_BYTES: Final = 255
"""Longest domain name (schema: `domain.namespace`)."""
MOST_COPIES: Final = 255
"""Largest mindevcount (schema: a column of one byte)."""
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
"""Fids skipped when a device holds other content under a fid that was just assigned."""

FAILCOUNT: Final = 255
"""Highest failure count of a queue's row (schema: `failcount`, one byte wide in MogileFS's schema)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for one peer of a server, beyond which requests are refused, slowed down or disconnected."""

    line: int = 256 * 1024
    """Longest request line that a tracker or side channel reads; a longer one ends the connection."""
    pipelined: int = 64 * 1024
    """Bytes of unanswered requests buffered per tracker connection before reading pauses; at least one line."""
    connections: int = 12_000
    """Open connections per server; at the limit, idle ones are closed for new ones, which otherwise wait."""
    open_files_share: float = 0.75
    """Share of the process's limit of open files available to the connections of one server."""
    tracker_idle: float = 3600.0
    """Time after which a tracker closes an idle connection; 0: never. A connection that watches stays open."""
    side_channels: int = 512
    """Open connections to a node's side channel; further ones wait in the backlog."""
    side_channel_idle: float = 600.0
    """Time after which an idle side channel is closed; a `watch` stays open."""
    unread_answer: float = 120.0
    """Time after which a peer that does not read its replies is disconnected."""
    header: int = 16 * 1024
    """Bytes of HTTP request line, and of each header field."""
    headers: int = 64 * 1024
    """Bytes of an HTTP request's line and header fields together."""
    header_time: float = 20.0
    """Time for a request's header to arrive, from the opening of the connection or the request's first byte."""
    stalled_body: float = 60.0
    """Time without progress of a body, in either direction, after which the transfer is aborted."""
    node_connect: float = 2.0
    """Time for a storage node to accept a connection before the gateway's nginx tries the next replica."""
    node_answer: float = 10.0
    """Time for a storage node to begin or continue a response before the next replica is tried."""
    s3_uploads: int = 128
    """Objects that an S3 listener receives at the same time; beyond that it answers SlowDown, and clients try again."""
    upload: int = 64 * 1024**4
    """Largest file."""
    upload_open: int = 3600
    """Time from create_open to create_close; after that the upload is removed."""
    chunk: int = 1024 * 1024
    """Unit in which bytes are read, hashed and sent."""
