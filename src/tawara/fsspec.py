"""A file system of fsspec over a store: `tawara://DOMAIN/KEY`, for pandas, PyArrow, Dask and all that uses fsspec.

A directory is a prefix of keys that ends with a slash; it exists while a key begins with it. Control goes through the
trackers, bytes directly to and from the storage nodes. Needs the extra `fsspec`.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from fsspec.asyn import AsyncFileSystem, sync
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractBufferedFile
from fsspec.utils import tokenize

from tawara.client.asynchronous import AsyncClient
from tawara.client.replies import FileInfo
from tawara.client.upload_source import Data
from tawara.model import errors

IN_MEMORY: Final = 8 * 1024 * 1024
"""Bytes of a file being written that are kept in memory; a longer one is kept in a temporary file."""
_AT_ONCE: Final = 32
"""Requests to trackers at the same time for one call."""
_CLOSE_SECONDS: Final = 2.0


@contextmanager
def _os_errors(path: str) -> Iterator[None]:
    """Turn the errors that have an equivalent for files into it; the others are those of `tawara.model.errors`."""
    try:
        yield
    except errors.NotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, error.message, path) from error
    except errors.ConflictError as error:
        raise FileExistsError(errno.EEXIST, error.message, path) from error
    except errors.DeniedError as error:
        raise PermissionError(errno.EACCES, error.message, path) from error
    except errors.UnavailableError as error:
        raise OSError(errno.EIO, error.message, path) from error


def _split(path: str) -> tuple[str, str]:
    """Return domain and key, which is empty for a domain; both are for the root."""
    domain, _, key = path.partition("/")
    return domain, key


def _prefix(key: str) -> str:
    return key and key + "/"


def _entry(path: str, info: FileInfo) -> dict[str, Any]:
    """Return what fsspec shows of a file."""
    changed = info.mtime_ns / 1e9 if info.mtime_ns is not None else info.stored_at
    return {
        "name": path,
        "size": info.length,
        "type": "file",
        "mtime": changed,
        "fid": info.fid,
        "storage_class": info.storage_class,
        "copies": info.copies,
        "checksum": str(info.checksum) if info.checksum else None,
        "content_type": info.content_type,
    }


def _directory(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


class TawaraFileSystem(AsyncFileSystem):
    """The domains of a store as top-level directories.

        >>> import fsspec
        >>> with fsspec.open("tawara://files/table.csv", "w") as file:
        ...     _ = file.write("a,b\\n1,2\\n")
        >>> fs = fsspec.filesystem("tawara")  # trackers="10.0.0.1:7001"; else TAWARA_TRACKERS, or 127.0.0.1:7001
        >>> fs.ls("files", detail=False)
        ['files/table.csv']
        >>> fs.cat_file("files/table.csv", start=-4)
        b'1,2\\n'
        >>> fs.rm("files/table.csv")

    A written file replaces an existing one when it is closed, in one step. Left with an exception in its own `with`
    block, it is not stored.
    """

    protocol = "tawara"
    root_marker = ""
    mirror_sync_methods = True

    def __init__(self, trackers: str | Sequence[str] | None = None, *, storage_class: str = "", **options: Any) -> None:
        """`trackers`: as for `Client`. `storage_class`: of written files. `options`: those of fsspec."""
        super().__init__(**options)
        self._trackers, self._storage_class = trackers, storage_class
        self._connected: AsyncClient | None = None

    @classmethod
    def _get_kwargs_from_urls(cls, path: str) -> dict[str, Any]:
        return {}

    @property
    def _client(self) -> AsyncClient:
        """The client; only for coroutines, since it belongs to their event loop."""
        if self._connected is None:
            self._connected = AsyncClient(self._trackers)
            weakref.finalize(self, _close, self._loop, self._connected)
        return self._connected

    def close(self) -> None:
        """Close all connections. The file system can be used again."""
        connected, self._connected = self._connected, None
        if connected is not None:
            _close(self._loop, connected)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        domain, key = _split(path)
        with _os_errors(path):
            if not key:
                if not domain or domain in [each.name for each in await self._client.domains()]:
                    return _directory(path)
                raise errors.UnregDomain(f"Domain not found: {domain}")
            try:
                return _entry(path, await self._client.info(domain, key))
            except errors.UnknownKey:
                async for _found in self._client.list_keys(domain, _prefix(key), page=1):
                    return _directory(path)
                raise

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        path = self._strip_protocol(path)
        domain, key = _split(path)
        with _os_errors(path):
            if not domain:
                entries = [_directory(each.name) for each in await self._client.domains()]
            else:
                entries = await self._list(path, domain, _prefix(key), detail=detail)
        entries.sort(key=lambda entry: entry["name"])
        return entries if detail else [entry["name"] for entry in entries]

    async def _list(self, path: str, domain: str, prefix: str, *, detail: bool) -> list[dict[str, Any]]:
        """Return the entries of a directory's members, or of the file at the path; without `detail` only names count.

        Raises FileNotFoundError.
        """
        listing = await self._client.list_directory(domain, prefix)
        if not listing.exists:
            found = await self._info(path)  # a file, or an empty domain
            return [found] if found["type"] == "file" else []
        directories = [_directory(f"{domain}/{each[:-1]}") for each in listing.directories]
        if not detail:
            return directories + [{"name": f"{domain}/{each}"} for each in listing.files]
        return directories + [entry async for entry in self._entries(domain, listing.files)]

    async def _entries(self, domain: str, keys: Iterable[str]) -> AsyncIterator[dict[str, Any]]:
        """Yield the entries of files; without those that were deleted after they were listed."""

        async def entry(key: str) -> dict[str, Any] | None:
            try:
                return _entry(f"{domain}/{key}", await self._client.info(domain, key))
            except errors.UnknownKey:
                return None

        for some in _batched(keys, _AT_ONCE):
            for found in await asyncio.gather(*map(entry, some)):
                if found is not None:
                    yield found

    async def _find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **options: Any
    ) -> Any:
        """Return the files below a path, from its keys, without asking for each directory: a list of paths or, with
        `detail`, a dictionary of entries.
        """
        path = self._strip_protocol(path)
        domain, key = _split(path)
        if maxdepth is not None or not domain:
            return await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **options)
        prefix = _prefix(key)
        with _os_errors(path):
            keys = [each async for each in self._client.list_keys(domain, prefix)]
            entries: dict[str, dict[str, Any]] = {}
            if withdirs:
                entries |= {each: _directory(each) for each in _directories(path, domain, prefix, keys)}
            files = [each for each in keys if not each.endswith("/")]
            if detail:
                entries |= {entry["name"]: entry async for entry in self._entries(domain, files)}
            else:
                entries |= {f"{domain}/{each}": {} for each in files}
            if not keys and key and await self._client.exists(domain, key):
                entries[path] = await self._info(path)
        names = sorted(entries)
        return {name: entries[name] for name in names} if detail else names

    def modified(self, path: str) -> datetime:
        """Return when the file was modified: the time that its uploader gave, else that of storing."""
        return datetime.fromtimestamp(self.info(path)["mtime"] or 0, UTC)

    def created(self, path: str) -> datetime:
        """Return the same as `modified`; a file is never changed, only replaced."""
        return self.modified(path)

    def checksum(self, path: str) -> int:
        """Return a number that changes when the path gets new content."""
        return int(self.ukey(path), 16)

    def ukey(self, path: str) -> str:
        """Return a text that changes when the path gets new content."""
        info = self.info(path)
        return str(tokenize(info["name"], info.get("fid")))

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        path = self._strip_protocol(path)
        if (start or 0) < 0 or (end or 0) < 0:
            size = (await self._info(path))["size"]
            start, end = ((each or 0) + size if (each or 0) < 0 else each for each in (start, end))
        return await self._read(path, max(0, start or 0), end)

    async def _read(self, path: str, start: int, end: int | None, *, fid: int | None = None) -> bytes:
        """Return bytes of a file; with `fid` of that content only. Raises OSError (ESTALE) if it was replaced."""
        with _os_errors(path):
            async with self._client.open(*_split(path), start=start, end=end) as reading:
                if fid not in (None, reading.info.fid):
                    raise OSError(errno.ESTALE, "The file was replaced while it was open", path)
                return b"".join([chunk async for chunk in reading])

    async def _get_file(self, rpath: str, lpath: str, callback: Callback = DEFAULT_CALLBACK, **_: Any) -> None:
        path = self._strip_protocol(rpath)
        if Path(lpath).is_dir():
            return
        if (info := await self._info(path))["type"] == "directory":
            Path(lpath).mkdir(parents=True, exist_ok=True)
            return
        callback.set_size(info["size"])
        with _os_errors(path):
            await self._client.download(*_split(path), lpath, progress=callback.relative_update)

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _store(self, path: str, data: Data, *, mode: str = "overwrite", **options: Any) -> None:
        """Store a file. `mode` "create": raise FileExistsError if it exists already, without excluding that another
        writer stores it at the same time. `options`: those of `AsyncClient.put`.
        """
        if not _split(path)[1]:
            raise IsADirectoryError(errno.EISDIR, "A domain is not a file", path)
        if mode == "create" and await self._exists(path):
            raise FileExistsError(errno.EEXIST, "Exists already", path)
        options.setdefault("storage_class", self._storage_class)
        with _os_errors(path):
            await self._client.put(*_split(path), data, **options)

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        await self._store(self._strip_protocol(path), bytes(value), mode=mode, **options)

    async def _put_file(
        self, lpath: str, rpath: str, mode: str = "overwrite", callback: Callback = DEFAULT_CALLBACK, **options: Any
    ) -> None:
        source = Path(lpath)
        if source.is_dir():
            return
        callback.set_size(source.stat().st_size)
        path = self._strip_protocol(rpath)
        await self._store(path, source, mode=mode, progress=callback.relative_update, **options)

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        if source == target:
            return
        try:
            with _os_errors(source):
                await self._client.copy(*_split(source), *_split(target))
        except FileNotFoundError:
            if not await self._isdir(source):  # a directory comes with its files
                raise

    def mv(self, path1: str, path2: str, recursive: bool = False, maxdepth: int | None = None, **options: Any) -> None:
        """Move files: a single one to a path of its domain that does not exist in one step, others by copying."""
        source, target = self._strip_protocol(path1), self._strip_protocol(path2)
        single = not recursive and source != target and not str(path2).endswith("/") and not self.isdir(target)
        if single and sync(self.loop, self._rename, source, target):
            return
        super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **options)

    async def _rename(self, source: str, target: str) -> bool:
        """Give a file another key; return False if the domains differ, or the target exists."""
        (domain, key), (new_domain, new_key) = _split(source), _split(target)
        if domain != new_domain:
            return False
        try:
            with _os_errors(source):
                await self._client.rename(domain, key, new_key)
        except FileExistsError:
            return False
        return True

    async def _rm_file(self, path: str, **_: Any) -> None:
        path = self._strip_protocol(path)
        with _os_errors(path):
            await self._client.delete(*_split(path))

    async def _rm(self, path: str | list[str], recursive: bool = False, **options: Any) -> None:
        """Delete files; with `recursive` all below the paths, too. A domain itself remains."""
        for each in await self._expand_path(path):
            domain, key = _split(each)
            with _os_errors(each):
                keys = [found async for found in self._client.list_keys(domain, _prefix(key))] if recursive else []
                if not keys and key:
                    await self._client.delete(domain, key)
                    continue
                for some in _batched([*keys, *([key] if key else [])], _AT_ONCE):
                    await asyncio.gather(*(self._delete_if_exists(domain, found) for found in some))

    async def _delete_if_exists(self, domain: str, key: str) -> None:
        with suppress(errors.UnknownKey):
            await self._client.delete(domain, key)

    async def _mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Do nothing, since directories come and go with their files. Raises FileNotFoundError if there is no such
        domain; domains are added by `tawara domain add`.
        """
        await self._info(_split(self._strip_protocol(path))[0])

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        """See `_mkdir`."""
        await self._mkdir(path)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> TawaraFile:
        """Open a file in the mode rb, wb or xb. `options`: those of `AsyncClient.put`, and `cache_type`."""
        if mode not in ("rb", "wb", "xb"):
            raise ValueError(f"Mode {mode} is not supported: a stored file is never changed, only replaced")
        return TawaraFile(
            self,
            self._strip_protocol(path),
            mode,
            block_size=block_size or "default",
            autocommit=autocommit,
            cache_options=cache_options,
            **options,
        )


class TawaraFile(AbstractBufferedFile):
    """A file of a store. Reading is random access to the content at the time of opening; writing is sequential."""

    def __init__(self, fs: TawaraFileSystem, path: str, mode: str, **options: Any) -> None:
        """Raises FileNotFoundError, IsADirectoryError, with mode xb FileExistsError."""
        self._spool: tempfile.SpooledTemporaryFile[bytes] | None = None
        if mode == "rb":
            info = fs.info(path)
            if info["type"] == "directory":
                raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
            self._details = info
        elif mode == "xb" and fs.exists(path):
            raise FileExistsError(errno.EEXIST, "Exists already", path)
        super().__init__(fs, path, mode, **options)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.mode != "rb":
            self.discard()
            self.closed = True
        self.close()

    def __del__(self) -> None:
        """Forget a file that was not closed."""
        if getattr(self, "mode", "rb") != "rb" and not self.closed:
            self.discard()
            self.closed = True

    def _fetch_range(self, start: int, end: int) -> bytes:
        read: bytes = sync(self.fs.loop, self.fs._read, self.path, start, end, fid=self._details["fid"])
        return read

    def _initiate_upload(self) -> None:
        self._spool = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed by commit and discard

    def _upload_chunk(self, final: bool = False) -> bool:
        assert self._spool is not None, "made by _initiate_upload"
        self.buffer.seek(0)
        shutil.copyfileobj(self.buffer, self._spool)
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        """Store what was written. A file that is opened in a transaction is stored when this ends."""
        spool, self._spool = self._spool, None
        if spool is None:
            return
        with spool:
            spool.seek(0)
            mode = "create" if self.mode == "xb" else "overwrite"
            sync(self.fs.loop, self.fs._store, self.path, spool, mode=mode, **self.kwargs)

    def discard(self) -> None:
        """Forget what was written."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()


def _directories(path: str, domain: str, prefix: str, keys: Iterable[str]) -> Iterator[str]:
    """Yield the paths of all directories of keys below a prefix, some more than once; first that of the prefix."""
    for key in keys:
        parts = key[len(prefix) :].split("/")[:-1]
        yield path
        for count in range(1, len(parts) + 1):
            yield f"{domain}/{prefix}{'/'.join(parts[:count])}"


def _batched(values: Iterable[str], count: int) -> Iterator[list[str]]:
    """Yield lists of up to `count` values."""
    iterator = iter(values)
    while some := list(islice(iterator, count)):
        yield some


def _close(loop: asyncio.AbstractEventLoop | None, client: AsyncClient) -> None:
    """Close a client of a loop that runs in another thread."""
    if loop is not None and loop.is_running():
        with suppress(TimeoutError, RuntimeError):  # the process ends
            sync(loop, client.close, timeout=_CLOSE_SECONDS)
