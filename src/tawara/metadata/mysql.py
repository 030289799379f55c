"""The engine for MariaDB 10.6 and newer, and MySQL 8: asyncmy, with server-side prepared statements.

Rows are transferred in the binary protocol. Isolation is READ COMMITTED with row locks, for the reasons given in
`postgres`, and one more: under InnoDB's default, REPEATABLE READ, locking reads also lock the gaps between keys, which
blocks inserts by other transactions and causes deadlocks. READ COMMITTED requires `binlog_format` MIXED or ROW, which
is the default. A locking read always sees the newest committed row. `lock` is a reserved word; ANSI_QUOTES allows names
in double quotes.
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
"""Most prepared statements kept by a connection."""


class MysqlDialect(StandardDialect):
    """The SQL dialect of MariaDB and MySQL, for keys in VARBINARY columns."""

    name = "mysql"
    unix_now = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6"
    # The index of UNIQUE (dmid, dkey), here and in MogileFS. Once it has statistics, MariaDB 10.11 spends 3 ms on
    # comparing a range of keys with the index of device counts (measured; 0.06 ms if it has no choice).
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
"""MySQL's latin1: a character for every byte."""


class LegacyMysqlDialect(MysqlDialect):
    """Dialect for keys as MogileFS stores them: text, in a column with a character set and a collation (17.2).

    The bytes of a key are those that a client of mogilefsd sees: the text in the character set of its connection, which
    is `utf8mb4` or, with old client libraries, `latin1`. Values are sent as text, so that the server compares them in
    the column's collation and uses its index. The collation still decides which keys are equal and how they are sorted
    (17.5).
    """

    key_value = f"?{_KEY_MARK}"
    exact_keys = False
    byte_order = False

    def __init__(self, charset: str, index: str | None) -> None:
        """`charset`: character set of mogilefsd's connection; `index`: name of the index of the keys."""
        self._charset = charset
        self.by_key = f" FORCE INDEX ({index})" if index else ""

    def text(self, key: bytes) -> str:
        """Return a key as text. Raises InvalidKey if no text represents it."""
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
        """See Dialect. The collation's index finds candidates; comparing bytes selects among them."""
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
    """Return the positions of a statement's parameters that are keys sent as text."""
    pieces = sql.split("?")[1:]
    return tuple(place for place, piece in enumerate(pieces) if piece.startswith(_KEY_MARK))


def translate(error: Exception) -> Exception:
    """Translate an exception of the driver to Tawara's own."""
    return outcome(remedy_of(error), str(error.args[-1] if error.args else error))


def remedy_of(error: Exception) -> Remedy:
    """Classify an exception of the driver or of the operating system."""
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
        """Whether the connection, used for changes only, is permanently in a transaction."""
        self._maria = "MariaDB" in connection.get_server_info()

    async def _ask(self, sql: str, values: Sequence[object]) -> Any:
        """Execute a prepared statement; the result has `rows`, `affected_rows` and `insert_id`."""
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
        """Execute a statement that has no values, without preparing it."""
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
        # An upsert counts a changed row as 2.
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
        """See Transaction. The violation of a unique key undoes only the statement."""
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
        """See Transaction. AUTO_INCREMENT follows inserted values, so there is nothing to do."""

    async def last_counted(self, table: str, key: str) -> int:
        """See Transaction. information_schema is not used, because its values are cached and may be outdated."""
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
            # From now on every statement is in a transaction without a BEGIN, which saves each change a round trip.
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
            pass  # the connection is broken already
        finally:
            self._connection.close()

    def terminate(self) -> None:
        """See Link."""
        self._connection.close()


class _ManyRows:
    """The text of an INSERT, split so that one statement can insert several rows."""

    SIZES = (32, 24, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)
    """Rows per statement. A round trip costs more than another prepared statement; few batches exceed eight rows."""

    def __init__(self, head: str, row: str, tail: str) -> None:
        self._head, self._row, self._tail = head, row, tail

    @functools.cache  # noqa: B019 as many as there are texts, which live as long
    def _text(self, size: int) -> str:
        return f"{self._head} {', '.join([self._row] * size)}{self._tail}"

    def take(self, rows: Sequence[Sequence[object]]) -> Iterable[tuple[str, list[object]]]:
        """Yield statements that insert all rows, of few different sizes, so that they stay prepared."""
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
