"""Synchronous client: runs the methods of `AsyncClient` on an event loop in a background thread.

Each method wraps the asynchronous one and keeps its parameters, types and documentation.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from tawara import background
from tawara.client.asynchronous import AsyncClient
from tawara.client.reading import Reading
from tawara.client.replies import FileInfo

P = ParamSpec("P")
T = TypeVar("T")
_END: Final = object()


class _Engine:
    """An event loop in a daemon thread, and the client that runs on it."""

    def __init__(self, make_client: Callable[[], AsyncClient]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tawara-client", daemon=True)
        self._thread.start()
        self.client = self.run(_made(make_client))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result. Ctrl-C in the waiting thread cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the cleanup of an iteration; the garbage collector may call this at any time, in any thread."""
        if self._loop.is_closed():
            work.close()
        elif threading.current_thread() is self._thread:
            asyncio.run_coroutine_threadsafe(work, self._loop)
        else:
            self.run(work)

    def stop(self) -> None:
        """Close the client, and stop the loop and its thread."""
        if threading.current_thread() is self._thread:  # the garbage collector ran here
            self._loop.call_soon(self._loop.stop)
            return
        self.run(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _finish(self) -> None:
        this = asyncio.current_task()
        await background.end(task for task in asyncio.all_tasks() if task is not this)
        await self.client.close()
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()


async def _made(make_client: Callable[[], AsyncClient]) -> AsyncClient:
    return make_client()


def _blocking(
    verb: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    @functools.wraps(verb)
    def run(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        engine = self._engine()
        return engine.run(verb(engine.client, *args, **kwargs))

    return run


def _iterating(
    verb: Callable[Concatenate[AsyncClient, P], AsyncIterator[T]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    @functools.wraps(verb)
    def run(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        engine = self._engine()
        return _walk(engine, verb(engine.client, *args, **kwargs))

    return run


def _walk(engine: _Engine, iterator: AsyncIterator[T]) -> Iterator[T]:
    async def step() -> T | object:
        return await anext(iterator, _END)

    async def leave() -> None:
        closing = getattr(iterator, "aclose", None)
        if closing is not None:
            await closing()

    try:
        while (item := engine.run(step())) is not _END:
            yield item  # type: ignore[misc]  # not _END, hence a T
    finally:
        engine.finish(leave())


def _opening(
    verb: Callable[Concatenate[AsyncClient, P], AbstractAsyncContextManager[Reading]],
) -> Callable[Concatenate[Client, P], AbstractContextManager[BlockingReading]]:
    @functools.wraps(verb)
    @contextmanager
    def run(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[BlockingReading]:
        engine = self._engine()
        opened = verb(engine.client, *args, **kwargs)
        reading = engine.run(_enter(opened))
        try:
            yield BlockingReading(engine, reading)
        finally:
            engine.finish(_exit(opened))

    return run


async def _enter(opened: AbstractAsyncContextManager[T]) -> T:
    return await opened.__aenter__()


async def _exit(opened: AbstractAsyncContextManager[T]) -> None:
    await opened.__aexit__(None, None, None)


class BlockingReading:
    """A file to read once: `info`, `length`, and the chunks by iteration."""

    def __init__(self, engine: _Engine, reading: Reading) -> None:
        self._engine = engine
        self._reading = reading

    @property
    def info(self) -> FileInfo:
        """Metadata of the file."""
        return self._reading.info

    @property
    def length(self) -> int:
        """Number of bytes that the iteration yields."""
        return self._reading.length

    def __iter__(self) -> Iterator[bytes]:
        return _walk(self._engine, aiter(self._reading))


class Client:
    """`AsyncClient` for code without asyncio: the same methods, which block; `stream` and `list_keys` are iterators.

    May be used by several threads at once, and in a forked process, which gets its own connections. Close it, or use it
    in a `with` statement; a client that is not closed ends with the process.

        >>> from tawara.client import Client
        >>> with Client() as client:  # TAWARA_TRACKERS, or 127.0.0.1:7001
        ...     stored = client.put("files", "greeting", b"hello, world")
        ...     print(stored.length, client.get("files", "greeting", end=5))
        ...     print(list(client.list_keys("files", "gree")))
        ...     client.delete("files", "greeting")
        12 b'hello'
        ['greeting']
    """

    def __init__(
        self,
        trackers: str | Sequence[str] | None = None,
        *,
        connect_timeout: float = 2.0,
        reply_timeout: float = 30.0,
        stall_timeout: float = 60.0,
    ) -> None:
        """As `AsyncClient`. The first method call starts the thread and connects."""
        self._make = functools.partial(
            AsyncClient,
            trackers,
            connect_timeout=connect_timeout,
            reply_timeout=reply_timeout,
            stall_timeout=stall_timeout,
        )
        self._make()  # so that invalid arguments raise here
        self._lock = threading.Lock()
        self._running: _Engine | None = None
        self._stop: Callable[[], object] | None = None
        _clients.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread; running calls in other threads fail. The client may be reused."""
        with self._lock:
            self._running = None
            if self._stop is not None:
                self._stop()
                self._stop = None

    # --- the verbs ----------------------------------------------------------------------------------------------------

    put = _blocking(AsyncClient.put)
    get = _blocking(AsyncClient.get)
    open = _opening(AsyncClient.open)
    stream = _iterating(AsyncClient.stream)
    download = _blocking(AsyncClient.download)
    paths = _blocking(AsyncClient.paths)
    info = _blocking(AsyncClient.info)
    exists = _blocking(AsyncClient.exists)
    list_keys = _iterating(AsyncClient.list_keys)
    list_directory = _blocking(AsyncClient.list_directory)
    delete = _blocking(AsyncClient.delete)
    copy = _blocking(AsyncClient.copy)
    rename = _blocking(AsyncClient.rename)
    set_class = _blocking(AsyncClient.set_class)

    domains = _blocking(AsyncClient.domains)
    classes = _blocking(AsyncClient.classes)
    create_domain = _blocking(AsyncClient.create_domain)
    delete_domain = _blocking(AsyncClient.delete_domain)
    create_class = _blocking(AsyncClient.create_class)
    update_class = _blocking(AsyncClient.update_class)
    delete_class = _blocking(AsyncClient.delete_class)
    hosts = _blocking(AsyncClient.hosts)
    create_host = _blocking(AsyncClient.create_host)
    update_host = _blocking(AsyncClient.update_host)
    delete_host = _blocking(AsyncClient.delete_host)
    devices = _blocking(AsyncClient.devices)
    create_device = _blocking(AsyncClient.create_device)
    set_device_state = _blocking(AsyncClient.set_device_state)
    set_device_weight = _blocking(AsyncClient.set_device_weight)
    settings = _blocking(AsyncClient.settings)
    setting = _blocking(AsyncClient.setting)
    set_setting = _blocking(AsyncClient.set_setting)
    explain = _blocking(AsyncClient.explain)
    explain_fid = _blocking(AsyncClient.explain_fid)
    store_status = _blocking(AsyncClient.store_status)
    placement = _blocking(AsyncClient.placement)
    removal = _blocking(AsyncClient.removal)
    delete_device = _blocking(AsyncClient.delete_device)
    remove_setting = _blocking(AsyncClient.remove_setting)
    replicate_now = _blocking(AsyncClient.replicate_now)
    clear_cache = _blocking(AsyncClient.clear_cache)
    fsck_start = _blocking(AsyncClient.fsck_start)
    fsck_stop = _blocking(AsyncClient.fsck_stop)
    fsck_reset = _blocking(AsyncClient.fsck_reset)
    fsck_status = _blocking(AsyncClient.fsck_status)
    fsck_log = _blocking(AsyncClient.fsck_log)
    fsck_clear_log = _blocking(AsyncClient.fsck_clear_log)
    rebalance_set_policy = _blocking(AsyncClient.rebalance_set_policy)
    rebalance_start = _blocking(AsyncClient.rebalance_start)
    rebalance_status = _blocking(AsyncClient.rebalance_status)
    rebalance_stop = _blocking(AsyncClient.rebalance_stop)
    rebalance_reset = _blocking(AsyncClient.rebalance_reset)
    tracker_stats = _blocking(AsyncClient.tracker_stats)

    def trackers(self) -> list[tuple[str, int]]:
        """The addresses of the trackers that this client knows."""
        return self._engine().client.trackers()

    # --- the engine ---------------------------------------------------------------------------------------------------

    def _engine(self) -> _Engine:
        with self._lock:
            if self._running is None:
                self._running = _Engine(self._make)
                # Also when this object, or the process, ends without `close`.
                self._stop = weakref.finalize(self, _stop_in, os.getpid(), self._running)
            return self._running

    def _forget(self) -> None:
        """Reset after a fork: the child has neither the thread nor a valid lock."""
        self._lock = threading.Lock()
        self._running = None
        self._stop = None


def _stop_in(pid: int, engine: _Engine) -> None:
    if os.getpid() == pid:
        engine.stop()


_clients: weakref.WeakSet[Client] = weakref.WeakSet()


def _forget_all() -> None:
    for client in list(_clients):
        client._forget()


os.register_at_fork(after_in_child=_forget_all)
