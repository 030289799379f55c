"""`tawara put`: store files, directories or standard input."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Container, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import STREAM, output
from tawara.cli.plan import FoundFile, PlannedUpload, is_stored, uploads
from tawara.cli.session import DEFAULT, Session, domain_hint, place
from tawara.cli.transfers import Force, Jobs, TransferResult, Verbose, digest_file, each, progress
from tawara.cli.usage import MissingArgument
from tawara.client import AsyncClient
from tawara.client.upload_source import Data
from tawara.model import errors
from tawara.model.cluster import DEFAULT_CLASS, HashType

_PIPE_LIMIT = 1024 * 1024
_LIST_FROM = 20
"""From this number of files on, existing keys are listed instead of looked up one by one."""
_LIST_FACTOR = 10
"""Maximum ratio of listed keys to files: a page of a list costs about as much as ten look-ups."""


async def put(
    *files: str,
    recursive: Annotated[bool, Parameter(name=["--recursive", "-r"])] = False,
    storage_class: Annotated[str, Parameter(name=["--class", "-c"])] = "",
    checksum: bool = False,
    force: Force = False,
    jobs: Jobs = 8,
    verbose: Verbose = False,
    session: Session = DEFAULT,
) -> int:
    """Store files.

    `tawara put FILE... DOMAIN/KEY`. A KEY that is empty or ends in `/` is a prefix: files are stored below it under
    their names. With -r directories are stored with their contents, under their own name, or, written `DIR/`, without
    it. `-` is standard input. Files that are stored already and unchanged are skipped, so an interrupted command can be
    repeated. A file that is unreadable, or changes while it is read, is reported; the others are stored, and the exit
    code is 1.

    For example:

        tawara put cat.jpg photos/
        tawara put -r website files/backup/2026/
        pg_dump shop | tawara put - files/shop.sql

    Parameters
    ----------
    files
        The files to store, then the target DOMAIN/KEY.
    recursive
        Also store directories.
    storage_class
        Storage class of the new files.
    checksum
        Compare existing files by checksum, and verify stored ones.
    """
    async with session.client() as client:
        if len(files) < 2:
            raise MissingArgument("put", "FILE... DOMAIN/KEY", missing="arguments", hint=await domain_hint(client))
        *sources, where = files
        domain, target = await place(client, where)
        hashtype = await checksum_type(client, domain, storage_class, checksum)
        unreadable: list[OSError] = []
        planned = uploads(_find(sources, unreadable.append, recursive=recursive), target, single=len(sources) == 1)
        there = await _keys_there(client, domain, planned)
        total = None if any(file.size is None for file in planned) else sum(file.size or 0 for file in planned)
        with progress(total, "put") as told:

            async def store(file: PlannedUpload) -> TransferResult:
                if not force and file.key in there and await _unchanged(client, domain, file, checksum):
                    if told is not None:
                        told(file.size or 0)
                    return TransferResult("skipped", file.source, domain, file.key, file.size)
                async with _unchanging(file.source) as mtime_ns, _opened(file.source) as data:
                    stored = await client.put(
                        domain,
                        file.key,
                        data,
                        storage_class=storage_class,
                        checksum=hashtype,
                        progress=told,
                        mtime_ns=mtime_ns,
                    )
                return TransferResult("stored", file.source, domain, file.key, stored.length, stored.fid)

            def failed(file: PlannedUpload, error: errors.TawaraError | OSError) -> TransferResult:
                return TransferResult("failed", file.source, domain, file.key, error=error)

            ended = await each(planned, store, failed, at_once=max(1, jobs), as_json=session.json, verbose=verbose)
    for error in unreadable:
        outcome = TransferResult("failed", os.fsdecode(error.filename), domain, "", error=error)
        outcome.say(as_json=session.json, verbose=verbose)
    return errors.Exit.FAILURE if unreadable else ended


async def checksum_type(client: AsyncClient, domain: str, storage_class: str, checksum: bool) -> HashType | None:
    """Return the type of checksum to send: that of the class, or any if one is requested. Raises UnregDomain."""
    for each_class in await client.classes(domain):
        if each_class.name == (storage_class or DEFAULT_CLASS) and each_class.hashtype is not None:
            return each_class.hashtype
    return HashType.MD5 if checksum else None


async def _keys_there(client: AsyncClient, domain: str, planned: list[PlannedUpload]) -> Container[str]:
    """Return the keys that may exist already.

    The keys of many files are listed, which saves a look-up for each new file, unless the list is much longer.
    """
    wanted = {file.key for file in planned if file.source != STREAM}
    if len(planned) < _LIST_FROM:
        return wanted
    there = set()
    prefix = os.path.commonprefix(list(wanted))  # noqa: RUF071 - keys begin with characters, not with path components
    async for key in client.list_keys(domain, prefix):
        there.add(key)
        if len(there) > _LIST_FACTOR * len(planned):
            return wanted
    return there


async def _unchanged(client: AsyncClient, domain: str, file: PlannedUpload, checksum: bool) -> bool:
    try:
        info = await client.info(domain, file.key)
    except errors.UnknownKey:
        return False
    equal = is_stored(file, info, by_checksum=checksum)
    if equal is not None or info.checksum is None:
        return bool(equal)
    return info.checksum == await asyncio.to_thread(digest_file, Path(file.source), info.checksum.hashtype)


# --- sources -------------------------------------------------------------------------------------------------------


def _find(arguments: list[str], unreadable: Callable[[OSError], None], *, recursive: bool) -> Iterator[FoundFile]:
    """Yield the files of each argument; `unreadable` is called for each unreadable entry of a directory.

    Raises OSError for an argument that does not exist, and UsageError for a directory without -r.
    """
    for argument in arguments:
        if argument == STREAM:
            yield FoundFile(STREAM, STREAM, None, None, None)
            continue
        found = Path(argument).stat()
        if not stat.S_ISDIR(found.st_mode):
            size = found.st_size if stat.S_ISREG(found.st_mode) else None
            yield FoundFile(argument, argument, None, size, found.st_mtime_ns)
        elif recursive:
            yield from _walk(argument, argument.rstrip("/") or "/", "", unreadable)
        else:
            raise errors.UsageError(f"{argument} is a directory", hint="Use -r to store directories.")


def _walk(argument: str, directory: str, below: str, unreadable: Callable[[OSError], None]) -> Iterator[FoundFile]:
    """Yield every regular file, in order of name; links to files are followed, links to directories are not."""
    try:
        with os.scandir(directory) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        unreadable(error)
        return
    for entry in entries:
        relative = below + entry.name
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(argument, entry.path, relative + "/", unreadable)
            elif entry.is_file():
                found = entry.stat()
                yield FoundFile(argument, entry.path, relative, found.st_size, found.st_mtime_ns)
            else:
                output.note(f"{entry.path}: neither a file nor a directory, skipped")
        except OSError as error:
            unreadable(error)


class SourceChanged(errors.TawaraError):
    """A file changed while it was being stored."""

    code = "source_changed"
    message = "The file changed while it was being stored"
    hint = None


@asynccontextmanager
async def _unchanging(source: str) -> AsyncIterator[int | None]:
    """The modification time of a source in nanoseconds. Raises SourceChanged if it has another one, or size, after."""
    before = None if source == STREAM else os.stat(source)  # noqa: PTH116
    if before is None or not stat.S_ISREG(before.st_mode):
        yield None
        return
    changed = SourceChanged(f"{source} changed while it was read", hint="Store it when no program writes to it.")
    try:
        yield before.st_mtime_ns
    except errors.SizeMismatch as error:
        raise changed from error
    after = os.stat(source)  # noqa: PTH116
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise changed


@asynccontextmanager
async def _opened(source: str) -> AsyncIterator[Data]:
    """The data of a source. Standard input that is a pipe or terminal is read without a thread, which Ctrl-C could not
    end while it waits; what never waits, such as a file or /dev/null, cannot be polled."""
    if source != STREAM:
        yield Path(source)
        return
    mode = os.fstat(0).st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        yield sys.stdin.buffer
        return
    if stat.S_ISCHR(mode) and not os.isatty(0):
        yield iter(lambda: sys.stdin.buffer.read(_PIPE_LIMIT), b"")
        return
    reader = asyncio.StreamReader(limit=_PIPE_LIMIT)
    was_blocking = os.get_blocking(0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )

    async def chunks() -> AsyncIterator[bytes]:
        while chunk := await reader.read(_PIPE_LIMIT):
            yield chunk

    try:
        yield chunks()
    finally:
        os.set_blocking(0, was_blocking)  # the terminal is shared with the shell
        transport.close()
