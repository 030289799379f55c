"""Waits for an unreachable database at a daemon's start, instead of failing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog

from tawara.cli.service_manager import notify
from tawara.model.errors import DatabaseUnavailable

T = TypeVar("T")
_SHORTEST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts; doubled each time."""
_START_LIMIT: Final = 60
"""Seconds by which each attempt extends the service manager's start timeout."""
log = structlog.get_logger(__name__)


async def until_available(step: Callable[[], Awaitable[T]]) -> T:
    """Run `step`, a part of the start, and repeat it while it raises DatabaseUnavailable; return its result."""
    pause, reason = _SHORTEST_PAUSE, ""
    while True:
        try:
            result = await step()
        except DatabaseUnavailable as error:
            if error.message != reason:
                reason = error.message
                log.warning("database_unavailable", reason=reason)
            notify(f"STATUS=Waiting for the database: {reason}\nEXTEND_TIMEOUT_USEC={_START_LIMIT * 1_000_000}")
        else:
            if reason:
                log.info("database_available")
                notify("STATUS=")
            return result
        await asyncio.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)
