"""Asynchronous client: stores and reads files, directly to and from the storage nodes."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from tawara.client import replies
from tawara.client.administration import Administration
from tawara.client.copying import CopySender
from tawara.client.directories import DirectoryListing, list_directory
from tawara.client.reading import PATHS, Located, Reading
from tawara.client.replies import FileInfo, Stored, key_bytes, key_text
from tawara.client.trackers import HERE, OutcomeUnknown, Trackers, parse_addresses
from tawara.client.upload import PAUSES, BodySender, UploadSession
from tawara.client.upload_source import Data, UploadSource
from tawara.model import errors
from tawara.model.cluster import Checksum, HashType
from tawara.model.limits import LIST_KEYS
from tawara.nodes.client import NodeClient
from tawara.wire.line import Value

T = TypeVar("T")

LOOK_UPS: Final = 20
"""Most look-ups of a key for one read while it is overwritten repeatedly."""


class AsyncClient(Administration):
    """Stores and reads files by domain and key, and administers the cluster. Bound to one event loop.

    Domains and classes are `str`. Keys are `str` (UTF-8) or `bytes`; returned keys are `str`, in which bytes that are
    not UTF-8 are lone surrogates, as in Python's file names, so that a returned key can be passed in again.

    Every method may raise `TrackerUnreachable` (no tracker responds), `Db` (their database fails), `UnregDomain`.

        >>> import asyncio
        >>> from tawara.client import AsyncClient
        >>> async def main() -> None:
        ...     async with AsyncClient() as client:  # TAWARA_TRACKERS, or 127.0.0.1:7001
        ...         await client.put("files", "greeting", b"hello, world")
        ...         async for chunk in client.stream("files", "greeting", start=7):
        ...             print(chunk)
        ...         print([key async for key in client.list_keys("files", "gree")])
        ...         await client.delete("files", "greeting")
        >>> asyncio.run(main())
        b'world'
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
        """`trackers`: HOST:PORT, several separated by commas or as a sequence; None uses the environment variable
        TAWARA_TRACKERS, or the tracker on this machine. Times are seconds. Does not connect yet.
        """
        if trackers is None:
            trackers = os.environ.get("TAWARA_TRACKERS") or HERE
        self._trackers = Trackers(
            parse_addresses(trackers), connect_timeout=connect_timeout, reply_timeout=reply_timeout
        )
        self._nodes = NodeClient(connect_timeout=connect_timeout, stall_timeout=stall_timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._trackers.close()
        await self._nodes.close()

    # --- storing files ------------------------------------------------------------------------------------------------

    async def put(
        self,
        domain: str,
        key: str | bytes,
        data: Data,
        *,
        storage_class: str = "",
        size: int | None = None,
        checksum: Checksum | HashType | None = None,
        progress: Callable[[int], None] | None = None,
        mtime_ns: int | None = None,
        content_type: str | None = None,
    ) -> Stored:
        """Store `data` under `key`, replacing an existing file. The file is durable when this returns.

        `data` is bytes, a `Path`, a file open for reading bytes (from its position), or an iterable, possibly
        asynchronous, of bytes; it is read in bounded pieces, in a thread if it blocks. `size` (bytes) is for `data`
        of unknown length: only devices with enough space are offered. `checksum` is the expected checksum, or the type
        to compute; either is verified on the device before the key is set. `progress` is called on the loop's thread
        with the bytes of each piece sent, and with a negative number when the upload restarts on another device.
        `mtime_ns` (unix nanoseconds) is the modification time of the source, `content_type` the media type with which
        gateways serve the file; `info` returns both.

        If a device fails, another one is used, provided that `data` can be read again. Raises NoDevices,
        NodeUnreachable (every offered device failed), UnregClass, SizeMismatch, ChecksumMismatch, errors of reading
        `data`, and OutcomeUnknown: the tracker disconnected at the end, and whether the file is stored is unknown.
        """
        sender = BodySender(self._nodes, UploadSource(data, size, progress), checksum)
        upload = UploadSession(
            self._trackers, domain, key_bytes(key), storage_class, sender, mtime_ns, content_type=content_type
        )
        return await upload.run()

    async def copy(
        self,
        domain: str,
        key: str | bytes,
        new_domain: str,
        new_key: str | bytes,
        *,
        storage_class: str | None = None,
    ) -> Stored:
        """Copy a file to another key, replacing an existing file there. The copy is durable when this returns.

        Where the trackers and storage nodes are Tawara's, the bytes stay on a device that holds the file; XFS and btrfs
        share its blocks. Otherwise they are read and sent. Checksum, media type and modification time are those of the
        source. `storage_class` None: the class of that name in the new domain which the source has in its own.

        Raises UnknownKey, NoSource, UnregClass, UsageError if both keys are the same, and as `put`.
        """
        if (domain, key_bytes(key)) == (new_domain, key_bytes(new_key)):
            raise errors.UsageError(
                f"Source and target are the same file: {domain}/{key_text(key_bytes(key))}",
                hint="To move a file to another class, use set_class.",
            )
        for attempt in itertools.count(1):
            located = await self._locate(domain, key, noverify=True, devices=True)
            info = located.info
            upload = UploadSession(
                self._trackers,
                new_domain,
                key_bytes(new_key),
                info.storage_class if storage_class is None else storage_class,
                CopySender(self._nodes, located),
                info.mtime_ns,
                content_type=info.content_type,
            )
            try:
                return await upload.run()
            except errors.NoSource:
                if attempt == LOOK_UPS or await self._has_fid(domain, key, info.fid):
                    raise  # else it was overwritten: copy the new content
            except errors.UnregClass as error:
                raise errors.UnregClass(
                    f"Domain {new_domain} has no class {upload.storage_class}", hint="Name a class of that domain."
                ) from error
        raise AssertionError("the last attempt returns or raises")

    # --- reading files ------------------------------------------------------------------------------------------------

    async def get(self, domain: str, key: str | bytes, *, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a file from `start` up to but excluding `end`. Raises UnknownKey, NoSource."""

        async def read(reading: Reading) -> bytes:
            return b"".join([chunk async for chunk in reading])

        return await self._read_whole(read, domain, key, start=start, end=end)

    @asynccontextmanager
    async def open(
        self, domain: str, key: str | bytes, *, start: int = 0, end: int | None = None, verify: bool = False
    ) -> AsyncIterator[Reading]:
        """Open a file to be read once: its `info`, the `length` to be read, and the bytes by iteration.

        The content is that at the time of opening, even if the key is overwritten meanwhile. The first bytes have
        arrived when this returns. With `verify` the bytes of a whole file are compared with its checksum, if it has
        one. Raises UnknownKey, NoSource; iterating raises NoSource if no replica can be read, ChecksumMismatch.
        """
        reading = await self._begin(domain, key, start=start, end=end, verify=verify)
        try:
            yield reading
        finally:
            await reading.close()

    async def stream(
        self, domain: str, key: str | bytes, *, start: int = 0, end: int | None = None, verify: bool = False
    ) -> AsyncIterator[bytes]:
        """Yield the chunks of a file; see `open`."""
        async with self.open(domain, key, start=start, end=end, verify=verify) as reading:
            async for chunk in reading:
                yield chunk

    async def download(
        self,
        domain: str,
        key: str | bytes,
        path: str | os.PathLike[str],
        *,
        verify: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> FileInfo:
        """Download a file to `path` atomically: it is written to a temporary file, fsynced and renamed.

        `progress` is called on the loop's thread with the bytes of each piece, and with a negative number when the
        download restarts because the key has new content. Raises as `open`, and OSError.
        """
        target = Path(path)

        async def fetch(reading: Reading) -> FileInfo:
            fetched = 0
            partial = target.with_name(f".tawara-{secrets.token_hex(8)}.part")  # fits wherever `target` fits
            descriptor = await asyncio.to_thread(_create, partial, target)
            try:
                try:
                    async for chunk in reading:
                        await asyncio.to_thread(_write_all, descriptor, chunk)
                        fetched += len(chunk)
                        if progress is not None:
                            progress(len(chunk))
                    await asyncio.to_thread(os.fsync, descriptor)
                finally:
                    os.close(descriptor)
                partial.replace(target)
            except BaseException as error:
                partial.unlink(missing_ok=True)
                if isinstance(error, errors.NoSource) and progress is not None and fetched:
                    progress(-fetched)
                raise
            await asyncio.to_thread(_sync_directory, target.parent)
            return reading.info

        return await self._read_whole(fetch, domain, key, verify=verify)

    async def paths(self, domain: str, key: str | bytes, *, count: int = PATHS, verify: bool = False) -> list[str]:
        """Return the URLs of readable replicas, best first. With `verify` the tracker checks that the first exists.

        Raises UnknownKey.
        """
        args: dict[str, Value] = {"domain": domain, "key": key_bytes(key), "pathcount": count}
        if not verify:
            args["noverify"] = 1
        with _about(domain, key):
            return await self._trackers.ask_for(replies.read_paths, "get_paths", args)

    async def info(self, domain: str, key: str | bytes, *, devices: bool = False) -> FileInfo:
        """Return the metadata of a file; with `devices` including its devices. Raises UnknownKey."""
        args: dict[str, Value] = {"domain": domain, "key": key_bytes(key), "times": 1}
        if devices:
            args["devices"] = 1
        with _about(domain, key):
            return await self._trackers.ask_for(FileInfo.read, "file_info", args)

    async def exists(self, domain: str, key: str | bytes) -> bool:
        """Whether the key exists."""
        try:
            await self.info(domain, key)
        except errors.UnknownKey:
            return False
        return True

    async def list_keys(
        self, domain: str, prefix: str | bytes = "", *, after: str | bytes = "", page: int = LIST_KEYS
    ) -> AsyncIterator[str]:
        """Yield the keys with `prefix` that follow `after`, in byte order; fetched `page` at a time."""
        wanted, latest = key_bytes(prefix), key_bytes(after)
        while True:
            args: dict[str, Value] = {"domain": domain, "prefix": wanted, "after": latest, "limit": page}
            try:
                with _about(domain, prefix):
                    keys = await self._trackers.ask_for(replies.read_keys, "list_keys", args)
            except errors.NoneMatch:
                return
            for key in keys:
                yield key_text(key)
            if len(keys) < page:
                return
            latest = keys[-1]

    async def list_directory(self, domain: str, prefix: str = "") -> DirectoryListing:
        """List the files and directories directly below `prefix`, which is empty or ends with `/`.

        A directory is a prefix of keys that ends with `/`; all keys below it are skipped, not read.
        """
        return await list_directory(self, domain, prefix)

    # --- changing files -----------------------------------------------------------------------------------------------

    async def delete(self, domain: str, key: str | bytes) -> None:
        """Delete a file; its bytes are deleted later. Raises UnknownKey."""
        args: dict[str, Value] = {"domain": domain, "key": key_bytes(key)}
        with _about(domain, key):
            await self._trackers.ask("delete", args, settled_by=(errors.UnknownKey,))

    async def rename(self, domain: str, key: str | bytes, new_key: str | bytes) -> None:
        """Give a file another key. Raises UnknownKey, OutcomeUnknown, and KeyExists: this never overwrites a file."""
        fid = (await self.info(domain, key)).fid
        args: dict[str, Value] = {"domain": domain, "from_key": key_bytes(key), "to_key": key_bytes(new_key)}
        unknown = False
        for pause in PAUSES:
            try:
                await self._trackers.ask("rename", args, once=True)
            except (OutcomeUnknown, errors.DatabaseUnavailable) as error:
                unknown = unknown or isinstance(error, OutcomeUnknown)
                if not unknown:
                    raise
                if await self._has_fid(domain, new_key, fid):
                    return
                await asyncio.sleep(pause)
            except errors.UnknownKey:
                if await self._has_fid(domain, new_key, fid):  # an attempt whose reply was lost succeeded
                    return
                raise
            else:
                return
        raise OutcomeUnknown(f"Whether {key_text(key_bytes(key))!r} has its new name is not known")

    async def set_class(self, domain: str, key: str | bytes, storage_class: str) -> None:
        """Move a file to another class. Raises InvalidKey if the file does not exist, ClassNotFound."""
        args: dict[str, Value] = {"domain": domain, "key": key_bytes(key), "class": storage_class}
        await self._trackers.ask("updateclass", args)

    # --- internal -----------------------------------------------------------------------------------------------------

    async def _read_whole(
        self, read: Callable[[Reading], Awaitable[T]], domain: str, key: str | bytes, **options: Any
    ) -> T:
        """Run `read` on a file; repeat it with the new content if the file is overwritten and its old bytes deleted."""
        for attempt in itertools.count(1):
            async with self.open(domain, key, **options) as reading:
                try:
                    return await read(reading)
                except errors.NoSource:
                    if attempt == LOOK_UPS or await self._has_fid(domain, key, reading.info.fid):
                        raise
        raise AssertionError("the last attempt returns or raises")

    async def _begin(self, domain: str, key: str | bytes, **options: Any) -> Reading:
        """Start a reading; of the key's newest content if the content found first was deleted already."""

        async def locate_again() -> Located:
            return await self._locate(domain, key, noverify=False)

        for attempt in itertools.count(1):
            reading = Reading(self._nodes, await self._locate(domain, key, noverify=True), locate_again, **options)
            try:
                await reading.begin()
            except BaseException as error:
                await reading.close()
                if not isinstance(error, errors.NoSource) or attempt == LOOK_UPS:
                    raise
                if await self._has_fid(domain, key, reading.info.fid):
                    raise
            else:
                return reading
        raise AssertionError("the last attempt returns or raises")

    async def _locate(self, domain: str, key: str | bytes, *, noverify: bool, devices: bool = False) -> Located:
        for attempt in range(LOOK_UPS):
            info, urls = await asyncio.gather(
                self.info(domain, key, devices=devices),
                self.paths(domain, key, verify=not noverify),
                return_exceptions=True,
            )
            if isinstance(info, BaseException):
                raise info
            if isinstance(urls, BaseException):
                raise urls
            located = Located(info, urls)
            if located.consistent():
                return located
            await asyncio.sleep(attempt * 0.01)  # another client keeps overwriting the key
        raise errors.NoSource(f"{key_text(key_bytes(key))!r} changes faster than it can be found")

    async def _has_fid(self, domain: str, key: str | bytes, fid: int) -> bool:
        try:
            return (await self.info(domain, key)).fid == fid
        except errors.UnknownKey:
            return False


@contextmanager
def _about(domain: str, key: str | bytes) -> Iterator[None]:
    """Add the domain or key to a "not found" error, since the tracker's reply does not include it."""
    try:
        yield
    except errors.UnknownKey as error:
        raise errors.UnknownKey(f"Not found: {domain}/{key_text(key_bytes(key))}") from error
    except errors.UnregDomain as error:
        raise errors.UnregDomain(f"Domain not found: {domain}") from error


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _create(partial: Path, target: Path) -> int:
    """Create the file `partial`; an error names `target`, or the missing directory."""
    try:
        return os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        if not target.parent.is_dir():
            raise type(error)(error.errno, "No such directory", str(target.parent)) from None
        raise type(error)(error.errno, error.strerror, str(target)) from None


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
