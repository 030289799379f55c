"""Circuit breaker for a database server: while it is unreachable, queries fail at once instead of waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from tawara.metadata.pool import LimitMet


class Closable(Protocol):
    """A connection, as used by this module."""

    async def close(self) -> None:
        """Close it."""
        ...


C = TypeVar("C", bound=Closable)


class Reachability(Generic[C]):
    """Opens connections. After a failure, one attempt at a time checks whether the server is back.

    There is no timer: the attempt is made when a query arrives, and all waiting queries share it.
    """

    def __init__(self, connect: Callable[[], Awaitable[C]], timeout: float) -> None:
        """`timeout`: most seconds that a query waits for the current attempt."""
        self._connect = connect
        self._timeout = timeout
        self.is_down = False
        """Whether the last attempt failed, or a query timed out."""
        self._attempt: asyncio.Task[None] | None = None
        self.reason = ""
        """Why the last attempt failed."""

    async def connect(self) -> C:
        """Open a connection. Raises what `connect` raises."""
        try:
            return await self._connect()
        except LimitMet:
            raise  # the server responded
        except Exception as error:
            self._failed(error)
            raise

    def mark_down(self) -> None:
        """Treat the server as down after a query timed out, until a new connection succeeds."""
        self.is_down = True
        self.reason = "no answer in time"

    async def is_reachable(self) -> bool:
        """Return whether the server can be reached, as far as that is known within the timeout."""
        if not self.is_down:
            return True
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._try())
        try:
            async with asyncio.timeout(self._timeout):
                await asyncio.shield(self._attempt)
        except TimeoutError:
            return False
        return not self.is_down

    async def _try(self) -> None:
        try:
            connection = await self._connect()
        except LimitMet:
            self.is_down = False
        except Exception as error:
            self._failed(error)
        else:
            self.is_down = False
            await connection.close()

    def _failed(self, error: Exception) -> None:
        self.is_down = True
        self.reason = str(error) or type(error).__name__

    async def close(self) -> None:
        """Cancel the current attempt."""
        if self._attempt is not None:
            self._attempt.cancel()
            await asyncio.wait({self._attempt})
