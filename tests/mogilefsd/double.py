"""What mogilefsd 2.73 does to its database, in its own statements (docs/mogilefs.md 15 to 17): a fake. It has look-ups
and the steps of storing a file, the claims of its job master, and its locks as on each engine. Keys are the bytes that
its clients see."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncmy
import asyncpg

from tawara.metadata.postgres import numbered
from tests.contract.servers import PASSWORD
from tests.mogilefsd.databases import path_of

CLAIM = 1000
"""Seconds for which the job master claims a row."""


def lockid(name: str) -> int:
    """The first 31 bits but one of the MD5 of a name."""
    return int.from_bytes(hashlib.md5(name.encode()).digest()[:4], "big") & 0x7FFFFFFF


class Mogilefsd:
    """One of its processes, with its own connection."""

    def __init__(self, engine: str, connection: Any, charset: str, hostname: str, pid: int) -> None:
        self.engine = engine
        self._connection = connection
        self._charset = charset
        self.hostname = hostname
        self.pid = pid

    async def ask(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Execute a statement; return its rows."""
        if self.engine == "sqlite":
            return self._connection.execute(sql, values).fetchall()  # type: ignore[no-any-return] # it is Any
        if self.engine == "postgresql":
            return [tuple(row) for row in await self._connection.fetch(numbered(sql), *values)]
        async with self._connection.cursor() as cursor:
            await cursor.execute(sql.replace("?", "%s"), values)
            return list(await cursor.fetchall())

    # --- keys ---------------------------------------------------------------------------------------------------------

    @property
    def _mark(self) -> str:
        """The placeholder of a key in a statement: Perl's SQLite driver gives bytes as text."""
        return "CAST(? AS TEXT)" if self.engine == "sqlite" else "?"

    def _value(self, key: bytes) -> object:
        match self.engine:
            case "sqlite":
                return key
            case "postgresql":
                return key.decode("latin-1")
            case _:
                return key.decode("cp1252" if self._charset == "latin1" else "utf-8")

    def _key(self, value: Any) -> bytes:
        match self.engine:
            case "sqlite":
                return bytes(value)
            case "postgresql":
                return str(value).encode("latin-1")
            case _:
                return str(value).encode("cp1252" if self._charset == "latin1" else "utf-8")

    # --- files --------------------------------------------------------------------------------------------------------

    async def find(self, dmid: int, key: bytes) -> tuple[int, int, tuple[int, ...]] | None:
        """The fid, length and devices of a key, as for get_paths and file_info."""
        rows = await self.ask(
            f"SELECT fid, dmid, dkey, length, classid, devcount FROM file WHERE dmid=? AND dkey={self._mark}",
            dmid,
            self._value(key),
        )
        if not rows:
            return None
        devids = await self.ask("SELECT devid FROM file_on WHERE fid=?", rows[0][0])
        return rows[0][0], rows[0][3], tuple(sorted(row[0] for row in devids))

    async def keys(self, dmid: int) -> set[bytes]:
        """All keys of a domain, as for list_keys."""
        rows = await self.ask("SELECT dkey FROM file WHERE dmid=? AND dkey > ? ORDER BY dkey LIMIT 1000", dmid, "")
        return {self._key(row[0]) for row in rows}

    async def open(self, dmid: int, key: bytes, *devids: int) -> int:
        """create_open: a new fid."""
        row = (int(time.time()), 0, dmid, self._value(key), ",".join(map(str, devids)))
        insert = f"INSERT INTO tempfile (createtime, classid, dmid, dkey, devids) VALUES (?,?,?,{self._mark},?)"
        if self.engine == "postgresql":
            return int((await self.ask(f"{insert} RETURNING fid", *row))[0][0])
        await self.ask(insert, *row)
        last = "last_insert_rowid()" if self.engine == "sqlite" else "LAST_INSERT_ID()"
        return int((await self.ask(f"SELECT {last}"))[0][0])

    async def close_upload(self, fid: int, dmid: int, key: bytes, devid: int, length: int = 10) -> None:
        """create_close of a new key."""
        assert await self.ask("SELECT fid FROM tempfile WHERE fid=?", fid)
        await self.ask("DELETE FROM tempfile WHERE fid=?", fid)
        await self.ask("INSERT INTO file_on (fid, devid) VALUES (?,?)", fid, devid)
        await self.ask(
            f"{'INSERT' if self.engine == 'postgresql' else 'REPLACE'} INTO file"
            f" (fid, dmid, dkey, length, classid, devcount) VALUES (?,?,{self._mark},?,?,?)",
            *(fid, dmid, self._value(key), length, 0, 1),
        )
        await self.ask("INSERT INTO file_to_replicate (fid, nexttry) VALUES (?,?)", fid, 0)

    async def store(self, dmid: int, key: bytes, *, devid: int = 1, length: int = 10) -> int:
        """Store a complete file on one device."""
        fid = await self.open(dmid, key, devid)
        await self.close_upload(fid, dmid, key, devid, length)
        return fid

    async def delete_name(self, fid: int) -> None:
        """The first commit of delete, and of an overwrite for the fid that it replaces."""
        await self.ask("DELETE FROM file WHERE fid=?", fid)

    async def queue_deletion(self, fid: int) -> None:
        """The second commit; it fails if the fid is queued already, except on MySQL, and an overwrite with it."""
        ignore = "INSERT IGNORE" if self.engine == "mysql" else "INSERT"
        await self.ask(f"{ignore} INTO file_to_delete2 (fid, nexttry) VALUES (?, ?)", fid, int(time.time()))

    # --- queues -------------------------------------------------------------------------------------------------------

    async def claim(self, queue: str, *, limit: int = 100, where: str = "") -> list[int]:
        """What the job master claims of a queue: due rows, for 1000 s."""
        if self.engine == "mysql":
            assert await self.get_lock(f"mfsd:{queue}", 30)
        now = int(time.time())
        lock = "" if self.engine == "sqlite" else " FOR UPDATE"
        await self.ask("BEGIN IMMEDIATE" if self.engine == "sqlite" else "BEGIN")
        rows = await self.ask(
            f"SELECT fid, nexttry, failcount FROM {queue} WHERE nexttry <= ? {where}"
            f" ORDER BY nexttry LIMIT {limit}{lock}",
            now,
        )
        if rows:
            fids = ",".join(str(row[0]) for row in rows)
            await self.ask(f"UPDATE {queue} SET nexttry = {now + CLAIM} WHERE fid IN ({fids})")
        await self.ask("COMMIT")
        if self.engine == "mysql":
            await self.release_lock(f"mfsd:{queue}")
        return [row[0] for row in rows]

    async def finish(self, queue: str, fid: int) -> None:
        """What its workers do when a fid is done, even if another has claimed it meanwhile."""
        await self.ask(f"DELETE FROM {queue} WHERE fid=?", fid)

    # --- locks --------------------------------------------------------------------------------------------------------

    async def get_lock(self, name: str, seconds: int = 0) -> bool:
        """Take a lock within so many seconds; more than one second counts on MySQL only."""
        match self.engine:
            case "mysql":
                return bool((await self.ask("SELECT GET_LOCK(?, ?)", name, seconds))[0][0])
            case "postgresql":
                row = await self.ask("SELECT pg_try_advisory_lock(?, ?)", lockid(self.hostname), lockid(name))
                return bool(row[0][0])
        while True:
            try:
                await self.ask(
                    "INSERT INTO lock (lockid,hostname,pid,acquiredat) VALUES (?, ?, ?, strftime('%s','now'))",
                    *(lockid(name), self.hostname, self.pid),
                )
            except sqlite3.IntegrityError:
                if await self._holder_is_alive(name):
                    return False
            else:
                return True

    async def _holder_is_alive(self, name: str) -> bool:
        rows = await self.ask("SELECT hostname, pid, acquiredat FROM lock WHERE lockid = ?", lockid(name))
        if not rows:
            return False
        hostname, pid, acquired = rows[0]
        if acquired + 3600 >= time.time():
            if hostname.decode() != self.hostname:
                return True
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                pass
            else:
                return True
        await self.ask(
            "DELETE FROM lock WHERE lockid = ? AND pid = ? AND hostname = ?", lockid(name), pid, hostname.decode()
        )
        return False

    async def release_lock(self, name: str) -> None:
        """Release a lock."""
        match self.engine:
            case "mysql":
                await self.ask("SELECT RELEASE_LOCK(?)", name)
            case "postgresql":
                await self.ask("SELECT pg_advisory_unlock(?, ?)", lockid(self.hostname), lockid(name))
            case _:
                await self.ask(
                    "DELETE FROM lock WHERE lockid=? AND pid=? AND hostname=?", lockid(name), self.pid, self.hostname
                )


@asynccontextmanager
async def mogilefsd(
    url: str, *, charset: str = "utf8mb4", hostname: str | None = None, pid: int | None = None, timeout: float = 5.0
) -> AsyncIterator[Mogilefsd]:
    """One of its processes on the database at `url`; `charset` of its connection (MySQL). `patience`: seconds for which
    it waits for other writers (SQLite)."""
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host, process = hostname or socket.gethostname(), pid or os.getppid()
    if parts.scheme == "sqlite":
        database = sqlite3.connect(path_of(url), isolation_level=None, timeout=timeout)
        database.text_factory = bytes
        try:
            yield Mogilefsd("sqlite", database, "", host, process)
        finally:
            database.close()
    elif parts.scheme == "postgresql":
        connection = await asyncpg.connect(url, password=PASSWORD)
        try:
            yield Mogilefsd("postgresql", connection, "", host, process)
        finally:
            await connection.close()
    else:
        session = await asyncmy.connect(
            unix_socket=options["unix_socket"],
            user=parts.username,
            password=PASSWORD,
            database=parts.path.strip("/"),
            charset=charset,
            autocommit=True,
        )
        try:
            yield Mogilefsd("mysql", session, charset, host, process)
        finally:
            await session.ensure_closed()
