"""TCP keepalive of connections to nodes and trackers."""

from __future__ import annotations

import socket

from tawara.nodes import keepalive


def test_a_silent_peer_is_detected_within_ten_seconds() -> None:
    """A connection probes after 5 idle seconds, each second, and fails after 10 seconds without acknowledgement."""
    with socket.socket() as connection:
        keepalive.enable(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert [
            connection.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT)
        ] == [5, 1, 10_000]
