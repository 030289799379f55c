"""Runs many transfers concurrently: one result each, progress on a terminal, totals at the end."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

from cyclopts import Parameter

from tawara.cli import STREAM, output
from tawara.model import errors
from tawara.model.checksums import new_hasher
from tawara.model.cluster import Checksum, HashType
from tawara.model.errors import Exit

T = TypeVar("T")
R = TypeVar("R")
Force: TypeAlias = Annotated[
    bool, Parameter(name=["--force", "-f"], help="Also transfer files that exist and are equal.")
]
Jobs: TypeAlias = Annotated[
    int, Parameter(name=["--jobs", "-j"], show_default=True, help="Transfers at the same time.")
]
Verbose: TypeAlias = Annotated[bool, Parameter(name=["--verbose", "-v"], help="One line for each file.")]
LONG = 8 * 1024 * 1024
"""Minimum number of bytes for a progress bar."""
_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TransferResult:
    """Result of one transfer."""

    verb: str
    """`stored`, `fetched`, `skipped`, `failed`, …"""
    name: str
    """The local file; STREAM for standard input."""
    domain: str
    key: str
    size: int | None = None
    fid: int | None = None
    error: errors.TawaraError | OSError | None = None

    def fields(self) -> dict[str, Any]:
        """For JSON, without unknown values."""
        known = {
            "outcome": self.verb,
            "file": "-" if self.name == STREAM else self.name,
            "domain": self.domain,
            "key": self.key,
            "size": self.size,
            "fid": self.fid,
            "error": told(self.error) if self.error else None,
        }
        return {name: value for name, value in known.items() if value is not None}

    def say(self, *, as_json: bool, verbose: bool) -> None:
        """Print it; a success only if `verbose`."""
        if as_json:
            output.json_line(self.fields())
        elif self.error is not None:
            text, name = told(self.error), self.name or self.key
            output.note(text if name in text else f"{name}: {text}")
        elif verbose:
            output.line(f"{self.verb} {output.shown(f'{self.domain}/{self.key}')}")


def told(error: errors.TawaraError | OSError) -> str:
    """Format an error in one line, with its file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


async def each(
    items: Sequence[T],
    transfer: Callable[[T], Awaitable[TransferResult]],
    failed: Callable[[T, errors.TawaraError | OSError], TransferResult],
    *,
    at_once: int,
    as_json: bool,
    verbose: bool,
) -> Exit:
    """Transfer every item and print the results; return the exit code. The error of a single item is raised.

    A failed item does not stop the others, unless no tracker answers.
    """
    began = time.monotonic()
    outcomes: dict[str, int] = {}
    moved = 0

    async def attempt(item: T) -> TransferResult:
        try:
            return await transfer(item)
        except errors.TrackerUnreachable:
            raise
        except (errors.TawaraError, OSError) as error:
            if len(items) == 1 and not as_json:
                raise
            return failed(item, error)

    async for outcome in in_order(items, attempt, at_once):
        outcomes[outcome.verb] = outcomes.get(outcome.verb, 0) + 1
        if outcome.error is None and outcome.verb != "skipped":
            moved += outcome.size or 0
        outcome.say(as_json=as_json, verbose=verbose)
    if not as_json and sys.stderr.isatty():
        counts = ", ".join(f"{count} {verb}" for verb, count in sorted(outcomes.items())) or "nothing to do"
        output.note(f"{counts}; {output.human_size(moved)} in {time.monotonic() - began:.1f} s")
    return Exit.FAILURE if outcomes.get("failed") else Exit.OK


async def in_order(
    items: Iterable[T] | AsyncIterator[T], work: Callable[[T], Awaitable[R]], at_once: int
) -> AsyncIterator[R]:
    """Yield the results of `work` for all items in order, `at_once` concurrently; the first error ends all."""
    pending: list[asyncio.Future[R]] = []
    # A slow transfer delays the printing of later results, not the work: up to twice as many may be pending.
    free = asyncio.Semaphore(at_once)

    async def run(item: T) -> R:
        async with free:
            return await work(item)

    try:
        async for item in _asynchronous(items):
            pending.append(asyncio.ensure_future(run(item)))
            if len(pending) >= 2 * at_once:
                yield await pending.pop(0)
        while pending:
            yield await pending.pop(0)
    finally:
        for future in pending:
            future.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


async def _asynchronous(items: Iterable[T] | AsyncIterator[T]) -> AsyncIterator[T]:
    if isinstance(items, AsyncIterator):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Callable[[int], None] | None]:
    """Show a bar of `total` bytes on a terminal; yields the function to call with each piece's size, or None."""
    if not sys.stderr.isatty() or (total is not None and total < LONG):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def digest_file(path: Path, hashtype: HashType) -> Checksum:
    """Return the checksum of a local file. Blocks. Raises OSError."""
    hasher = new_hasher(hashtype)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return Checksum(hashtype, hasher.digest())
