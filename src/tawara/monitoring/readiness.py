"""Whether a process should get requests now: `/readyz`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

Check = Callable[[], Awaitable[str]]
"""Returns the reason why no request can be served, empty if there is none."""

TIMEOUT: Final = 1.0
"""Seconds within which a check must answer."""
FRESH: Final = 0.5
"""Seconds for which a result is used again, so that many probes cost one query."""


class Readiness:
    """The checks of one process. Belongs to one event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.started = False
        """Whether all components have started."""
        self.stopping = False
        """Whether the process was asked to stop; it still serves, until balancers have noticed."""
        self._checks: dict[str, Check] = {}
        self._clock = clock
        self._checking = asyncio.Lock()
        self._found: list[str] = []
        self._found_at = float("-inf")

    def add(self, name: str, check: Check) -> None:
        """Add a check; its reason is reported after `name`."""
        self._checks[name] = check

    async def reasons(self) -> list[str]:
        """Return why the process should get no requests; empty if it should."""
        if self.stopping:
            return ["stopping"]
        if not self.started:
            return ["starting"]
        async with self._checking:
            if self._clock() - self._found_at >= FRESH:
                answers = await asyncio.gather(*(_bounded(check) for check in self._checks.values()))
                self._found = [f"{name}: {told}" for name, told in zip(self._checks, answers, strict=True) if told]
                self._found_at = self._clock()
            return list(self._found)

    async def works(self, name: str) -> bool:
        """Return the last result of one check; true if there is none of this name."""
        return not any(each.startswith(f"{name}: ") for each in await self.reasons())


async def _bounded(check: Check) -> str:
    try:
        async with asyncio.timeout(TIMEOUT):
            return await check()
    except TimeoutError:
        return f"no answer within {TIMEOUT:.0f} s"
    except Exception as error:
        return str(error) or type(error).__name__
