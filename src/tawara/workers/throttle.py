"""How fast bytes may be moved or read by one kind of worker of this process: as a setting says, or without limit."""

from __future__ import annotations

import asyncio
import time

from tawara.metadata.view import ClusterView
from tawara.model import amounts

BURST = 0.5
"""Seconds' worth of bytes that may go at once after a rest."""


class Throttle:
    """Bytes a second, read anew each time from the cluster's setting `tawara_rate_NAME`; empty or 0 is no limit."""

    def __init__(self, view: ClusterView, name: str) -> None:
        self._view = view
        self._setting = f"tawara_rate_{name}"
        self._free_at = 0.0
        """By the monotonic clock: when all bytes that were let through have had their time."""

    async def spend(self, size: int) -> None:
        """Wait until it is the turn of so many more bytes."""
        rate = amounts.size(self._view.current.settings.get(self._setting, "")) or 0
        if not rate:
            return
        now = time.monotonic()
        begins = max(self._free_at, now - BURST)
        self._free_at = begins + size / rate
        if begins > now:
            await asyncio.sleep(begins - now)
