"""Runs a daemon in the foreground, one per directory, until a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import structlog
import uvloop

from tawara.cli import reloading, service_manager
from tawara.cli.assembly import Running
from tawara.model.errors import InUse

log = structlog.get_logger(__name__)

DESCRIPTORS = 65_536
"""Limit of open files that is requested, as far as the system allows."""
_STOPPING = (signal.SIGINT, signal.SIGTERM)
GRACE = 4.5
"""Seconds after the signal within which the process has to stop; the next start cleans up the rest."""


@contextlib.contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, which the kernel releases when this process ends. Raises InUse."""
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            raise InUse(
                f"Tawara is already running on {directory} (process {pid})",
                hint=f"Use it, or stop it: kill {pid}",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


async def _reload(reload: Callable[[], None]) -> None:
    service_manager.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    await asyncio.to_thread(reload)
    service_manager.notify("READY=1")


@asynccontextmanager
async def _signals(reload: Callable[[], None]) -> AsyncIterator[tuple[asyncio.Event, asyncio.Event]]:
    """Set the first event on SIGINT or SIGTERM, the second on another one; on SIGHUP call `reload` in a thread."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def begin_reload() -> None:
        task = loop.create_task(_reload(reload))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def begin_stop() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in _STOPPING:
        loop.add_signal_handler(number, begin_stop)
    loop.add_signal_handler(reloading.RELOAD, begin_reload)
    for number in reloading.UNUSED:
        loop.add_signal_handler(number, reloading.ignore, number)
    try:
        yield stop, hurry
    finally:
        for number in (*_STOPPING, reloading.RELOAD, *reloading.UNUSED):
            loop.remove_signal_handler(number)
        reloading.survive()


def run_until_signal(store: AbstractAsyncContextManager[Running], reload: Callable[[], None]) -> None:
    """Enter `store`, wait for SIGINT or SIGTERM, drain and leave it; within `GRACE` then, also while it starts.

    `reload` is called, in a thread, for each SIGHUP.
    """

    async def main() -> None:
        async with _signals(reload) as (stop, hurry):
            stopping = asyncio.ensure_future(stop.wait())
            watchdog = asyncio.ensure_future(_feed_watchdog())
            started, drained = asyncio.Event(), asyncio.Event()
            running = asyncio.ensure_future(_run_until_stopped(store, started, stop, hurry, drained))
            await asyncio.wait({stopping, running}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if stop.is_set():
                log.info("stopping")
                service_manager.notify("STOPPING=1")
                if not started.is_set():
                    running.cancel()
                else:
                    draining = asyncio.ensure_future(drained.wait())
                    await asyncio.wait({draining, running}, return_when=asyncio.FIRST_COMPLETED)
                    draining.cancel()
            await asyncio.wait({running}, timeout=GRACE)
            if not running.done():
                log.warning("stop_timed_out", seconds=GRACE)
                os._exit(1)
            watchdog.cancel()
            await _cancel_remaining_tasks()
            if not running.cancelled():
                running.result()

    raise_descriptors()
    uvloop.run(main())


async def _feed_watchdog() -> None:
    """Show the service manager that the event loop turns, if it wants to know."""
    period = service_manager.watchdog_period()
    while period is not None:
        service_manager.notify("WATCHDOG=1")
        await asyncio.sleep(period)


async def _cancel_remaining_tasks() -> None:
    """Cancel all running tasks, twice: a task that waits for a hanging thread does not end at the first time."""
    for _ in range(2):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=0.5)


async def _run_until_stopped(
    store: AbstractAsyncContextManager[Running],
    started: asyncio.Event,
    stop: asyncio.Event,
    hurry: asyncio.Event,
    drained: asyncio.Event,
) -> None:
    async with store as running:
        started.set()
        await stop.wait()
        await running.drain(hurry)
        drained.set()


def raise_descriptors() -> None:
    """Raise the limit of open files: the usual soft limit is meant for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
