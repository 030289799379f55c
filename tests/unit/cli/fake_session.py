"""A command-line session with a fake client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tawara.cli.session import Session


@dataclass(frozen=True)
class FakeSession(Session):
    """Gives commands `fake` as their client."""

    fake: Any = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Any]:
        """Yield the fake client."""
        yield self.fake
