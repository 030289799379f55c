"""Noticing that a machine was switched off, or its cable pulled, while a connection to it is open.

A machine that is only slow to answer acknowledges what it got, and is waited for. One that takes nothing of what is
sent, though it is there, is left as well, by Linux's reckoning after some twenty seconds.
"""

from __future__ import annotations

import socket
from typing import Final

_OPTIONS: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 1, "TCP_USER_TIMEOUT": 10_000}
"""Seconds, seconds, and milliseconds without a sign of the other side, or without its taking anything (tcp(7))."""


def notice(connection: socket.socket) -> None:
    """Have a connection fail when there has been no sign of the other machine for ten seconds."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        if (option := getattr(socket, name, None)) is not None:  # Linux has them all
            connection.setsockopt(socket.IPPROTO_TCP, option, value)
