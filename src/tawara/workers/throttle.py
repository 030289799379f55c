"""Limits the bytes per second that one kind of worker of this process moves or reads."""

from __future__ import annotations

import asyncio
import time

from tawara.metadata.view import ClusterView
from tawara.model import amounts

BURST = 0.5
"""Seconds' worth of bytes that may pass at once after a pause."""


class Throttle:
    """The rate of the cluster setting `tawara_rate_NAME`, read at each use; empty or 0 is unlimited.

    The limit is that of one process: N processes together move up to N times as much.
    """

    def __init__(self, view: ClusterView, name: str) -> None:
        self._view = view
        self._setting = f"tawara_rate_{name}"
        self._free_at = 0.0
        """Monotonic time at which all bytes admitted so far have had their time."""

    async def spend(self, size: int) -> None:
        """Wait until `size` more bytes may pass."""
        rate = amounts.size(self._view.current.settings.get(self._setting, "")) or 0
        if not rate:
            return
        now = time.monotonic()
        begins = max(self._free_at, now - BURST)
        self._free_at = begins + size / rate
        if begins > now:
            await asyncio.sleep(begins - now)
