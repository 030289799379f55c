"""mogilefsd's lock against concurrent work on the replicas of one fid, `mgfs:fid:N:replicate` (docs/mogilefs.md 16).

Tawara's own processes use leases and reserved copies instead, which survive the process that took them. A mogilefsd on
the same database honours Tawara's leases, because a lease is a `nexttry` in the future (Tawara's of 60 s are renewed,
mogilefsd's last 1000 s). But it does not know `tawara_copy`, queues work on one fid in several queues, and deletes
without reading rows again. So while a mogilefsd runs on the same database, a worker that copies, deletes or cleans up
also holds mogilefsd's lock of the fid.

mogilefsd's other locks are not needed. Two processes that expire uploads (`mgfs:tempfiles`), empty a dead device
(`mgfs:reaper`), record disk usage (`mgfs:device_update`) or check files (`mgfs:fscksum`) at once write the same rows
twice. `mgfs:fid:N` guards `devcount`, on which no decision depends here. `mfsd:TABLE` protects claims from deadlocks;
Tawara uses row locks and retries instead.

`open_locks` is called only if the configuration field `store.beside_mogilefsd` names hosts, so the locks cost nothing
where no mogilefsd runs. The database does not show whether one runs: an idle mogilefsd leaves no trace in it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.server import ConnectionLost, Link, ServerMetadata, TransactionConflict
from tawara.model.errors import Db

STALE = 3600
"""Seconds after which a row of the table `lock` is abandoned (SQLite)."""
ANSWER = 10.0
"""Most seconds that the database may take to report whether a lock is free."""


class FidLocks(Protocol):
    """Locks of fids, shared with every mogilefsd on the database."""

    def hold(self, fid: int) -> AbstractAsyncContextManager[bool]:
        """Hold the lock of `fid` within the block; False, at once, if another holder has it. Raises Db."""
        ...

    async def close(self) -> None:
        """Release all locks."""
        ...


def open_locks(metadata: Metadata, hosts: Sequence[str]) -> FidLocks:
    """Open the locks shared with the mogilefsd processes that run on these hosts, on the database of `metadata`.

    The host names, as printed by `hostname` there, matter on PostgreSQL only.
    """
    if not isinstance(metadata, ServerMetadata):
        return SqliteFidLocks(metadata)
    return ServerFidLocks(metadata.link, sorted({socket.gethostname(), *hosts}))


def name_of(fid: int) -> str:
    """Return mogilefsd's name of the lock."""
    return f"mgfs:fid:{fid}:replicate"


def number_of(name: str) -> int:
    """Return the number that represents a lock's name on SQLite and PostgreSQL."""
    return int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest()[:4]) & 0x7FFFFFFF


# --- SQLite: rows of the table `lock` ---------------------------------------------------------------------------------


async def _acquire(tx: Transaction, number: int, host: str, pid: int, *, now: int) -> bool:
    row = await tx.row("SELECT hostname, pid, acquiredat FROM lock WHERE lockid = ?", number)
    if row is not None and not _is_abandoned(*row, host=host, now=now):
        return False
    upsert = tx.dialect.upsert("lock", ("lockid",), ("hostname", "pid", "acquiredat"))
    await tx.run(upsert, number, host, pid, now)
    return True


def _is_abandoned(holder_host: str, holder_pid: int, acquired: int, *, host: str, now: int) -> bool:
    """Return whether the holder of a row is gone or has held it too long, by mogilefsd's rules."""
    if acquired + STALE < now:
        return True
    if holder_host != host:
        return False
    try:
        os.kill(holder_pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


async def _release(tx: Transaction, number: int, host: str, pid: int) -> None:
    await tx.run("DELETE FROM lock WHERE lockid = ? AND hostname = ? AND pid = ?", number, host, pid)


class _HeldLock(ABC):
    """The locks held by this process; to the database all its units of work are one holder."""

    def __init__(self) -> None:
        self._fids: set[int] = set()

    @asynccontextmanager
    async def hold(self, fid: int) -> AsyncIterator[bool]:
        """See FidLocks."""
        if fid in self._fids:
            yield False
            return
        self._fids.add(fid)
        try:
            # Acquisition completes even if the caller is cancelled, so that it is known what must be released.
            taking = asyncio.ensure_future(self._acquire(fid))
            try:
                taken = await asyncio.shield(taking)
            except asyncio.CancelledError:
                if await taking:
                    await self._release(fid)
                raise
            try:
                yield taken
            finally:
                if taken:
                    await asyncio.shield(asyncio.ensure_future(self._release(fid)))
        finally:
            self._fids.discard(fid)

    @abstractmethod
    async def _acquire(self, fid: int) -> bool: ...

    @abstractmethod
    async def _release(self, fid: int) -> None: ...


class SqliteFidLocks(_HeldLock):
    """Locks as rows with this host and process. mogilefsd takes over rows of a dead process, and so does Tawara."""

    def __init__(self, metadata: Metadata) -> None:
        super().__init__()
        self._metadata = metadata
        self._owner = (socket.gethostname(), os.getpid())

    async def _acquire(self, fid: int) -> bool:
        now = await self._metadata.clock.seconds()
        return await self._metadata.write(_acquire, number_of(name_of(fid)), *self._owner, now=now)

    async def _release(self, fid: int) -> None:
        await self._metadata.write(_release, number_of(name_of(fid)), *self._owner)

    async def close(self) -> None:
        """See FidLocks. Each block has released its own lock."""


# --- database servers: locks bound to a connection --------------------------------------------------------------------

_MYSQL_TAKE, _MYSQL_FREE = "SELECT GET_LOCK(?, 0)", "SELECT RELEASE_LOCK(?)"
_POSTGRES_TAKE, _POSTGRES_FREE = "SELECT pg_try_advisory_lock(?, ?)", "SELECT pg_advisory_unlock(?, ?)"
_POSTGRES_OTHERS = (
    "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND objid::bigint = ?"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()"
)


class ServerFidLocks(_HeldLock):
    """Locks bound to one connection. The server releases them when it is lost; work in progress continues without them.

    On PostgreSQL a mogilefsd takes a lock under its own host's name, so that locks of two hosts do not exclude each
    other. Tawara takes it under all names, and respects every holder under any name.
    """

    def __init__(self, connect: Callable[[], Awaitable[Link]], hosts: Sequence[str]) -> None:
        super().__init__()
        self._connect = connect
        self._hosts = [number_of(host) for host in hosts]
        self._link: Link | None = None
        self._busy = asyncio.Lock()

    async def _acquire(self, fid: int) -> bool:
        async with self._busy:
            for attempt in (1, 2):
                try:
                    if self._link is None:
                        self._link = await self._connect()
                    async with asyncio.timeout(ANSWER):
                        return await self._acquire_by(self._link, fid)
                except (ConnectionLost, TransactionConflict, TimeoutError) as error:
                    self._drop()
                    if attempt == 2:
                        raise Db("The database does not answer") from error
        raise AssertionError("the second attempt returns or raises")

    async def _release(self, fid: int) -> None:
        async with self._busy:
            if self._link is None:
                return
            try:
                async with asyncio.timeout(ANSWER):
                    await self._free_by(self._link, fid)
            except (ConnectionLost, TransactionConflict, TimeoutError):
                self._drop()  # this releases the lock, too

    async def _acquire_by(self, link: Link, fid: int) -> bool:
        if link.dialect.name == "mysql":
            row = await link.row(_MYSQL_TAKE, name_of(fid))
            return row is not None and row[0] == 1
        number = number_of(name_of(fid))
        for taken, host in enumerate(self._hosts):
            row = await link.row(_POSTGRES_TAKE, host, number)
            if row is None or not row[0]:
                await self._free_postgres(link, number, self._hosts[:taken])
                return False
        if await link.row(_POSTGRES_OTHERS, number) is not None:
            await self._free_postgres(link, number, self._hosts)
            return False
        return True

    async def _free_by(self, link: Link, fid: int) -> None:
        if link.dialect.name == "mysql":
            await link.row(_MYSQL_FREE, name_of(fid))
        else:
            await self._free_postgres(link, number_of(name_of(fid)), self._hosts)

    @staticmethod
    async def _free_postgres(link: Link, number: int, hosts: Sequence[int]) -> None:
        for host in hosts:
            await link.row(_POSTGRES_FREE, host, number)

    def _drop(self) -> None:
        if self._link is not None:
            self._link.terminate()
            self._link = None

    async def close(self) -> None:
        """See FidLocks."""
        async with self._busy:
            if self._link is not None:
                await self._link.close()
                self._link = None
