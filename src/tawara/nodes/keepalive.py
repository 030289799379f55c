"""TCP keepalive for client connections: detects within ten seconds that the peer's machine is gone.

A machine that is only slow still acknowledges packets, so its connections stay open. A machine that acknowledges but
never reads what is sent loses its connection, too, on Linux after about twenty seconds.
"""

from __future__ import annotations

import socket
from typing import Final

_OPTIONS: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 1, "TCP_USER_TIMEOUT": 10_000}
"""Idle seconds before the first probe, seconds between probes, milliseconds without an acknowledgement (tcp(7))."""


def enable(connection: socket.socket) -> None:
    """Make `connection` fail after ten seconds without a packet from the peer."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:  # Linux has them all
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
