"""MariaDB 10.6 and newer, and MySQL 8, by asyncmy: server-side prepared statements, rows in the binary protocol.

Isolation is READ COMMITTED with row locks, for the reasons that `postgres` gives, and one more: under InnoDB's default,
REPEATABLE READ, locking reads also lock the gaps between keys, in which others then cannot insert, and deadlock. It
needs `binlog_format` to be MIXED or ROW, as it is unless someone changed it. A locking read always sees the newest
committed row. `lock` is a reserved word: names may stand in double quotes (ANSI_QUOTES).
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, cast

from asyncmy import errors as my

from tawara.metadata.contract import Dialect, Row
from tawara.metadata.dialect import StandardDialect, marks
from tawara.metadata.error_codes import Remedy, of_mysql
from tawara.metadata.server import UniqueViolation, outcome
from tawara.model.errors import Dup, InvalidKey

STATEMENTS = 256
"""Most statements that a connection keeps prepared."""


class MysqlDialect(StandardDialect):
    """MariaDB's and MySQL's words, for keys in VARBINARY columns."""

    name = "mysql"
    unix_now = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6"
    # Of the UNIQUE (dmid, dkey), here and in MogileFS. Once it has statistics, MariaDB 10.11 spends 3 ms on weighing a
    # range of keys against the index of device counts (measured; 0.06 ms without the choice).
    by_key = " FORCE INDEX (dmid)"

    def joined(self, column: str) -> str:
        """See Dialect."""
        return f"GROUP_CONCAT({column})"

    def insert_or_ignore(self, table: str, columns: Sequence[str]) -> str:
        """See Dialect."""
        return f"INSERT IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks(columns)})"

    def upsert(self, table: str, key: Sequence[str], columns: Sequence[str]) -> str:
        """See Dialect."""
        changes = ", ".join(f"{column} = VALUES({column})" for column in columns)
        both = (*key, *columns)
        return f"INSERT INTO {table} ({', '.join(both)}) VALUES ({marks(both)}) ON DUPLICATE KEY UPDATE {changes}"


_KEY_MARK = "/*key*/"
_UNMAPPED = {each: chr(each) for each in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}
_CP1252 = [_UNMAPPED.get(each) or bytes([each]).decode("cp1252") for each in range(256)]
"""What MySQL calls latin1: a character for every byte."""


class LegacyMysqlDialect(MysqlDialect):
    """For keys as MogileFS keeps them: text, in a column with a character set and a collation (17.2).

    The bytes of a key are what a client of mogilefsd sees: the text in the character set of its connection, `utf8mb4`
    or, with old client libraries, `latin1`. Values go as text, so that the server compares them in the column's
    collation and finds them by its index; which keys are the same, and how they are sorted, it says as before (17.5).
    """

    key_value = f"?{_KEY_MARK}"
    exact_keys = False

    def __init__(self, charset: str, index: str | None) -> None:
        """`charset` is that of mogilefsd's connection, `index` the name of that of the keys."""
        self._charset = charset
        self.by_key = f" FORCE INDEX ({index})" if index else ""

    def text(self, key: bytes) -> str:
        """A key as the text that stands for it. Raises InvalidKey where there is none."""
        if self._charset == "latin1":
            return "".join(_CP1252[byte] for byte in key)
        try:
            return key.decode()
        except UnicodeDecodeError:
            raise InvalidKey("This database, made by MogileFS, keeps keys of valid UTF-8 only") from None

    def key_column(self, column: str) -> str:
        """See Dialect."""
        return f"CAST(CONVERT({column} USING {self._charset}) AS BINARY)"

    def key_range(self, column: str, prefix: bytes, after: bytes | None) -> tuple[list[str], list[object]]:
        """See Dialect. The collation finds candidates by the index, the bytes decide."""
        conditions: list[str] = []
        values: list[object] = []
        if prefix:
            conditions.append(f"LEFT({self.key_column(column)}, ?) = ?")
            values += (len(prefix), prefix)
            whole = prefix if self._charset == "latin1" else prefix.decode(errors="ignore").encode()
            if prefix.startswith(whole):
                escaped = whole.replace(b"\\", b"\\\\").replace(b"%", b"\\%").replace(b"_", b"\\_")
                conditions.append(f"{column} LIKE {self.key_value}")
                values.append(escaped + b"%")
        if after is not None:
            conditions.append(f"{column} > {self.key_value}")
            values.append(after)
        return conditions, values


@functools.lru_cache(maxsize=1024)
def _key_places(sql: str) -> tuple[int, ...]:
    """Which of a statement's values are keys that go as text."""
    pieces = sql.split("?")[1:]
    return tuple(place for place, piece in enumerate(pieces) if piece.startswith(_KEY_MARK))


def translate(error: Exception) -> Exception:
    """A driver's exception as one of ours."""
    return outcome(remedy_of(error), str(error.args[-1] if error.args else error))


def remedy_of(error: Exception) -> Remedy:
    """What follows from an exception of the driver or of the system."""
    if isinstance(error, OSError):
        return Remedy.RECONNECT
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if number is not None and (remedy := of_mysql(number)) is not Remedy.CALLER:
        return remedy
    return Remedy.RECONNECT if isinstance(error, my.InterfaceError) else Remedy.CALLER


class MysqlLink:
    """One connection to MariaDB or MySQL, as server.Link."""

    def __init__(self, connection: Any, dialect: Dialect) -> None:
        self._connection = connection
        self.dialect = dialect
        self._prepared: OrderedDict[str, Any] = OrderedDict()
        self._always = False
        """Whether the connection, which is one for changes, always is in a transaction."""
        self._maria = "MariaDB" in connection.get_server_info()

    async def _ask(self, sql: str, values: Sequence[object]) -> Any:
        """The result of a statement: `rows`, `affected_rows`, `insert_id`."""
        if isinstance(self.dialect, LegacyMysqlDialect) and (places := _key_places(sql)):
            given = list(values)
            for place in places:
                given[place] = self.dialect.text(cast("bytes", given[place]))
            values = given
        try:
            return await (await self._statement(sql)).execute(values)
        except (my.Error, OSError) as error:
            raise translate(error) from error

    async def _statement(self, sql: str) -> Any:
        statement = self._prepared.get(sql)
        if statement is None:
            statement = self._prepared[sql] = await self._connection.prepare(sql)
            if len(self._prepared) > STATEMENTS:
                await self._prepared.popitem(last=False)[1].close()
        else:
            self._prepared.move_to_end(sql)
        return statement

    async def _say(self, sql: str) -> None:
        """Execute a statement without values and unprepared."""
        try:
            await self._connection.query(sql)
        except (my.Error, OSError) as error:
            raise translate(error) from error

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """See Transaction."""
        return list((await self._ask(sql, values)).rows)

    async def row(self, sql: str, *values: object) -> Row | None:
        """See Transaction."""
        found = (await self._ask(sql, values)).rows
        return found[0] if found else None

    async def run(self, sql: str, *values: object) -> int:
        """See Transaction."""
        changed: int = (await self._ask(sql, values)).affected_rows
        # An upsert counts 2 for a row that it changed.
        return min(changed, 1) if "ON DUPLICATE KEY" in sql else changed

    async def run_many(self, sql: str, values: Iterable[Sequence[object]]) -> None:
        """See Transaction. An INSERT of many rows is one statement."""
        rows = list(values)
        if len(rows) > 1 and (many := _of_many(sql)) is not None:
            for text, flat in many.take(rows):
                await self._ask(text, flat)
            return
        for row in rows:
            await self._ask(sql, row)

    async def insert(self, sql: str, key: str, *values: object) -> int:
        """See Transaction. A broken unique key undoes only the statement."""
        try:
            return cast("int", (await self._ask(sql, values)).insert_id)
        except UniqueViolation:
            raise Dup from None

    async def insert_many(self, sql: str, key: str, values: Sequence[Sequence[object]]) -> list[int]:
        """See Transaction."""
        many = _of_many(sql)
        if not self._maria or many is None or len(values) == 1:
            return [await self.insert(sql, key, *each) for each in values]
        numbers: list[int] = []
        for text, flat in many.take(values):
            numbers += (row[0] for row in (await self._ask(f"{text} RETURNING {key}", flat)).rows)
        return numbers

    async def advance(self, table: str, key: str, number: int) -> None:
        """See Transaction. AUTO_INCREMENT minds what is inserted."""

    async def last_counted(self, table: str, key: str) -> int:
        """See Transaction. information_schema would say what was so a while ago."""
        row = await self.row(f"SHOW CREATE TABLE {table}")
        found = re.search(r"\) .*AUTO_INCREMENT=(\d+)", row[1]) if row else None
        return int(found[1]) - 1 if found else 0

    async def count_from(self, table: str, key: str, number: int) -> None:
        """See Transaction."""
        await self._say(f"ALTER TABLE {table} AUTO_INCREMENT = {number + 1}")

    async def begin(self, *, snapshot: bool) -> None:
        """See Link."""
        if snapshot:
            await self._say("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await self._say("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        elif not self._always:
            # From now on every statement is in a transaction without a BEGIN, which saves each change a journey.
            await self._say("SET autocommit = 0")
            self._always = True

    async def commit(self) -> None:
        """See Link."""
        await self._say("COMMIT")

    async def rollback(self) -> None:
        """See Link."""
        await self._say("ROLLBACK")

    async def close(self) -> None:
        """See Link."""
        try:
            async with asyncio.timeout(2):
                await self._connection.ensure_closed()
        except (my.Error, OSError, TimeoutError):
            pass  # who cannot be said goodbye to is left
        finally:
            self._connection.close()

    def terminate(self) -> None:
        """See Link."""
        self._connection.close()


class _ManyRows:
    """An INSERT's text, taken apart so that it can insert several rows at once."""

    SIZES = (32, 24, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)
    """A journey to the server costs more than another prepared statement; few parties have more than eight rows."""

    def __init__(self, head: str, row: str, tail: str) -> None:
        self._head, self._row, self._tail = head, row, tail

    @functools.cache  # noqa: B019 as many as there are texts, which live as long
    def _text(self, size: int) -> str:
        return f"{self._head} {', '.join([self._row] * size)}{self._tail}"

    def take(self, rows: Sequence[Sequence[object]]) -> Iterable[tuple[str, list[object]]]:
        """All rows, in few statements of few different sizes, so that they stay prepared."""
        done = 0
        while done < len(rows):
            size = next(each for each in self.SIZES if each <= len(rows) - done)
            yield self._text(size), [value for row in rows[done : done + size] for value in row]
            done += size


@functools.lru_cache(maxsize=256)
def _of_many(sql: str) -> _ManyRows | None:
    head, separator, values = sql.partition(" VALUES (")
    if not separator:
        return None
    depth = 1
    for end, character in enumerate(values):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return _ManyRows(f"{head} VALUES", f"({values[: end + 1]}", values[end + 1 :])
    return None
