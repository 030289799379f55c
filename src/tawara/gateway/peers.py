"""Watches which other gateways answer, so that no request waits for one that is gone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import structlog

from tawara.background import Background

log = structlog.get_logger(__name__)

_PERIOD: Final = 2.0
"""Seconds between two attempts to connect to each gateway."""
_TIMEOUT: Final = 1.0


class PeerMonitor:
    """Knows which gateways answer; the others count as unreachable. Start and stop it once."""

    def __init__(self, peers: Sequence[tuple[str, int]]) -> None:
        self._peers = list(peers)
        self._up: set[tuple[str, int]] = set()
        self._task = Background("gateway peers")

    async def start(self) -> None:
        """Look once, then periodically."""
        await self.look()
        self._task.start(self._run())

    async def stop(self) -> None:
        """Stop looking."""
        await self._task.stop()

    def is_up(self, peer: tuple[str, int]) -> bool:
        """Whether a gateway answered when it was last asked."""
        return peer in self._up

    async def look(self) -> None:
        """Try to connect to each gateway."""
        answers = await asyncio.gather(*map(_answers, self._peers))
        up = {peer for peer, answer in zip(self._peers, answers, strict=True) if answer}
        for peer in sorted(up ^ self._up):
            log.info("gateway_reachability_changed", host=peer[0], port=peer[1], reachable=peer in up)
        self._up = up

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            await self.look()


async def _answers(peer: tuple[str, int]) -> bool:
    # A socket and no stream: one that is cancelled while it connects would not be closed.
    with socket.socket(socket.AF_INET6 if ":" in peer[0] else socket.AF_INET) as connecting:
        connecting.setblocking(False)
        try:
            async with asyncio.timeout(_TIMEOUT):
                await asyncio.get_running_loop().sock_connect(connecting, peer)
        except (OSError, TimeoutError):
            return False
    return True
