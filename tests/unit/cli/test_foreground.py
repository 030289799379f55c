"""How a daemon in the foreground stops."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog.testing

from tawara.cli import foreground


class _Exited(Exception):
    """The process would have ended at once."""


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal to stop has arrived; no limits of the process change; an abrupt end is an exception."""

    @asynccontextmanager
    async def signals(_: Callable[[], None]) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, stop.set)
        yield stop, asyncio.Event()

    def end(code: int) -> None:
        raise _Exited(code)

    monkeypatch.setattr(foreground, "_signals", signals)
    monkeypatch.setattr(foreground, "raise_descriptors", lambda: None)
    monkeypatch.setattr(os, "_exit", end)


async def _nothing() -> None:
    pass


def _run(start: Callable[[], Any], stop: Callable[[], Any], drain: Callable[[], Any] = _nothing) -> list[str]:
    """Run a store with these steps at its start, its stop, and before; return the events that are logged."""

    class _Store:
        async def drain(self, hurry: asyncio.Event) -> None:
            await drain()

    @asynccontextmanager
    async def store() -> AsyncIterator[Any]:
        await start()
        yield _Store()
        await stop()

    with structlog.testing.capture_logs() as logs:
        foreground.run_until_signal(store(), lambda: None)
    return [each["event"] for each in logs]


async def _hang() -> None:
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            raise


def test_a_store_stops_at_the_signal() -> None:
    """A store that stops in time ends without a warning."""
    assert _run(_nothing, _nothing) == ["stopping"]


def test_a_start_is_given_up_at_the_signal() -> None:
    """A store that is still starting is cancelled."""
    assert _run(_hang, _nothing) == ["stopping"]


def test_a_store_that_does_not_stop_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not stop in time is reported, and the process ends at once."""
    monkeypatch.setattr(foreground, "GRACE", 0.02)
    with pytest.raises(_Exited, match="1"):
        _run(_nothing, _hang)


def test_the_time_of_draining_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may drain for longer than it may take to stop."""
    monkeypatch.setattr(foreground, "GRACE", 0.2)
    assert _run(_nothing, _nothing, lambda: asyncio.sleep(0.4)) == ["stopping"]


def test_an_error_of_the_store_is_raised() -> None:
    """A store that fails at its start ends the process with its error."""

    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        _run(fail, _nothing)
