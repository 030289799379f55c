"""`tawara get`: fetch files from the store, to files, directories or standard output."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import STREAM
from tawara.cli.plan import UnsafeKey, fetched_times, is_fetched, relative_path
from tawara.cli.session import DEFAULT, Session, file_at, keys_below, place
from tawara.cli.transfers import Force, Jobs, TransferResult, Verbose, digest_file, each, progress
from tawara.cli.usage import MissingArgument
from tawara.client import AsyncClient, FileInfo
from tawara.model import errors


@dataclass(frozen=True, slots=True)
class _Download:
    key: str
    target: Path | None
    """None if the key is refused; `refusal` has the reason."""
    refusal: errors.TawaraError | None = None


async def get(
    source: str | None = None,
    target: str | None = None,
    /,
    *,
    recursive: Annotated[bool, Parameter(name=["--recursive", "-r"])] = False,
    checksum: bool = False,
    force: Force = False,
    jobs: Jobs = 8,
    verbose: Verbose = False,
    session: Session = DEFAULT,
) -> int:
    """Fetch files.

    `tawara get DOMAIN/KEY [FILE]`. Without FILE the file goes into this directory, under the last part of its key; `-`
    is standard output. With -r all keys that begin with PREFIX go below a directory; a PREFIX that ends in `/` is
    omitted from their paths. A file appears whole or not at all. Files that were fetched already and are unchanged are
    skipped, so an interrupted command can be repeated.

    For example:

        tawara get photos/cat.jpg
        tawara get files/shop.sql - | psql shop
        tawara get -r files/backup/2026/ restored

    Parameters
    ----------
    source
        DOMAIN/KEY, or with -r DOMAIN/PREFIX.
    target
        File, directory, or `-` for standard output.
    recursive
        Every key that begins with PREFIX.
    checksum
        Compare existing files by checksum, and verify fetched ones.
    """
    async with session.client() as client:
        domain, key = await (place if recursive else file_at)(client, source)
        if target == STREAM and not recursive:
            return await _to_stdout(client, domain, key, verify=checksum)
        if recursive and target in (None, STREAM):
            raise MissingArgument("get", "-r DOMAIN/PREFIX DIRECTORY", missing="argument: DIRECTORY")
        root = Path(target or "")
        if recursive:
            planned = [_below(root, found, key) for found in await keys_below(client, domain, key)]
        else:
            planned = [_Download(key, _file_for(key, target))]
        total = (await client.info(domain, key)).length if not recursive else None
        with progress(total, "get") as report:

            async def fetch(download: _Download) -> TransferResult:
                if download.refusal is not None:
                    raise download.refusal
                assert download.target is not None
                if recursive:
                    await asyncio.to_thread(_make_parents, root, download.target)
                if not force and await _unchanged(client, domain, download.key, download.target, checksum):
                    return TransferResult("skipped", str(download.target), domain, download.key)
                info = await _fetch(client, domain, download.key, download.target, checksum, report)
                return TransferResult("fetched", str(download.target), domain, download.key, info.length, info.fid)

            def failed(download: _Download, error: errors.TawaraError | OSError) -> TransferResult:
                return TransferResult("failed", str(download.target or ""), domain, download.key, error=error)

            return await each(planned, fetch, failed, at_once=max(1, jobs), as_json=session.json, verbose=verbose)


async def _fetch(
    client: AsyncClient,
    domain: str,
    key: str,
    target: Path,
    verify: bool,
    report: Callable[[int], None] | None,
) -> FileInfo:
    info = await client.download(domain, key, target, verify=verify, progress=report)
    for time in fetched_times(info)[:1]:  # the next run compares this time
        os.utime(target, ns=(time, time))
    return info


async def _unchanged(client: AsyncClient, domain: str, key: str, target: Path, checksum: bool) -> bool:
    try:
        there = target.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    info = await client.info(domain, key)
    digest = None
    if checksum:
        if info.checksum is None or info.length != there.st_size:
            return False
        digest = await asyncio.to_thread(digest_file, target, info.checksum.hashtype)
    return is_fetched(there.st_size, there.st_mtime_ns, info, digest)


async def _to_stdout(client: AsyncClient, domain: str, key: str, *, verify: bool) -> int:
    async for chunk in client.stream(domain, key, verify=verify):
        await asyncio.to_thread(sys.stdout.buffer.write, chunk)
    await asyncio.to_thread(sys.stdout.buffer.flush)
    return 0


def _file_for(key: str, target: str | None) -> Path:
    """Return the path to which one key is fetched."""
    if target is not None and not target.endswith("/") and not Path(target).is_dir():
        return Path(target)
    name = key.rpartition("/")[2]
    return Path(target or "") / relative_path(name, "")


def _below(root: Path, key: str, prefix: str) -> _Download:
    try:
        return _Download(key, root / relative_path(key, prefix))
    except UnsafeKey as refusal:
        return _Download(key, None, refusal)


def _make_parents(root: Path, target: Path) -> None:
    """Create the parent directories of `target`; refuse if a link below `root` leads outside of it."""
    root.mkdir(parents=True, exist_ok=True)
    inside = root.resolve()
    above = root
    for part in target.relative_to(root).parts[:-1]:
        above = above / part
        above.mkdir(exist_ok=True)
        if not above.resolve().is_relative_to(inside):
            raise UnsafeKey(f"{above} is a link that leads out of {root}")
