"""Connects to MariaDB, MySQL or a Galera cluster: URL options, choice of the server, and session setup."""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote

import asyncmy
import structlog
from asyncmy import errors as my
from asyncmy.constants.CLIENT import FOUND_ROWS

from tawara.metadata import creation
from tawara.metadata.contract import Dialect, Metadata
from tawara.metadata.hosts import DatabaseServer, Servers, hosts_of, split_url
from tawara.metadata.mysql import LegacyMysqlDialect, MysqlDialect, MysqlLink, translate
from tawara.metadata.server import ConnectionLost, ServerLimits, ServerMetadata, TransactionConflict
from tawara.model.errors import ConfigurationError, DatabaseUnavailable, Db

_DENIED = {1044, 1045, 1049, 1698}
_OPTIONS = {"unix_socket", "ssl_ca", "keys", "target_session_attrs"}
_WRITABLE, _ANY = ("read-write", "primary"), ("any",)

_NOT_READY = "not in step with its Galera cluster, or cut off from it"
_SYNC_WAIT = 7
"""Value of wsrep_sync_wait, which keeps a server of a Galera cluster from returning outdated rows.

Before the first SELECT, UPDATE, DELETE or INSERT of a transaction the server applies all earlier commits of the
cluster.
"""


async def open_mysql(
    url: str, password: str | None, pace: ServerLimits | None = None, *, any_version: bool = False
) -> Metadata:
    """Open the database at `url`, and create the tables if it is empty; see open.open_metadata."""
    pace = pace or ServerLimits()
    parts = split_url(url)
    options = _options(parts)
    arguments = _arguments(parts, options, password, pace)
    hosts = [DatabaseServer("")] if "unix_socket" in options else hosts_of(parts)
    any_server = options.get("target_session_attrs", _WRITABLE[0]) in _ANY

    def servers(dialect: Dialect) -> Servers[MysqlLink]:
        connect = functools.partial(_connect, arguments, pace, dialect, any_server=any_server)
        return Servers(hosts, connect, pace.connect)

    try:
        link = await servers(MysqlDialect()).connect()
        try:
            dialect = await _examine(link, pace, any_version, options.get("keys", "utf8mb4"))
        finally:
            await link.close()
    except ConnectionLost as error:
        raise DatabaseUnavailable(f"The database does not answer: {error}") from error
    return ServerMetadata(servers(dialect).connect, pace)


def _options(parts: SplitResult) -> dict[str, str]:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = options.keys() - _OPTIONS
    if unknown:
        raise ConfigurationError(
            f"The database URL has unknown options: {', '.join(sorted(unknown))}",
            hint=f"Those of MySQL are {', '.join(sorted(_OPTIONS))}.",
        )
    if (charset := options.get("keys", "utf8mb4")) not in ("utf8mb4", "latin1"):
        raise ConfigurationError(f"keys={charset}: the keys of MogileFS are utf8mb4 or latin1")
    target = options.get("target_session_attrs", _ANY[0])
    if target not in (*_WRITABLE, *_ANY):
        raise ConfigurationError(
            f"target_session_attrs={target}: a store needs a server that it can write to",
            hint="read-write, which is the default, uses the first server that is not read-only; any the first at all.",
        )
    return options


def _arguments(
    parts: SplitResult, options: Mapping[str, str], password: str | None, pace: ServerLimits
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "user": unquote(parts.username or "tawara"),
        "password": password or "",
        "database": unquote(parts.path.strip("/")),
        "charset": "utf8mb4",
        "autocommit": True,
        "client_flag": FOUND_ROWS,
        "connect_timeout": max(1, int(pace.connect)),
        "init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    }
    if "unix_socket" in options:
        arguments["unix_socket"] = options["unix_socket"]
    if "ssl_ca" in options:
        arguments["ssl"] = _trusting(options["ssl_ca"])
    return arguments


def _trusting(path: str) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates in the file at `path`. Raises ConfigurationError."""
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # also ssl.SSLError
        raise ConfigurationError(f"The certificates ssl_ca={path} cannot be read: {error.strerror or error}") from error


async def _connect(
    arguments: Mapping[str, Any], pace: ServerLimits, dialect: Dialect, host: DatabaseServer, *, any_server: bool
) -> MysqlLink:
    """Open a connection to `host` and set up its session. Raises ConnectionLost, ConfigurationError."""
    place = {} if "unix_socket" in arguments else {"host": host.name or "127.0.0.1", "port": host.port or 3306}
    try:
        # One time limit for connecting and for setup; asyncmy itself closes a connection cancelled while connecting.
        async with asyncio.timeout(pace.connect):
            link = MysqlLink(await asyncmy.connect(**arguments, **place), dialect)
            try:
                await _set_up(link, pace, any_server=any_server)
            except BaseException:
                link.terminate()
                raise
    except my.Error as error:
        if error.args and error.args[0] in _DENIED:
            raise ConfigurationError(f"The database does not let us in: {error.args[-1]}") from error
        if error.args and error.args[0] == 1047:
            raise ConnectionLost(_NOT_READY) from error
        raise translate(error) from error
    except TimeoutError as error:
        raise ConnectionLost("no answer in time") from error
    except OSError as error:
        raise ConnectionLost(error.strerror or str(error)) from error
    return link


async def _set_up(link: MysqlLink, pace: ServerLimits, *, any_server: bool) -> None:
    found = await link.rows("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'read_only', 'super_read_only')")
    variables = {_text(name).lower(): _text(value).upper() in ("1", "ON") for name, value in found}
    settings = [
        "sql_mode = 'STRICT_ALL_TABLES,ANSI_QUOTES,NO_ENGINE_SUBSTITUTION'",
        f"innodb_lock_wait_timeout = {max(1, int(pace.answer))}",
    ]
    if variables.get("wsrep_on"):
        ready = await link.row("SHOW STATUS LIKE 'wsrep_ready'")
        if ready is None or _text(ready[1]).upper() != "ON":
            raise ConnectionLost(_NOT_READY)
        settings.append(f"wsrep_sync_wait = {_SYNC_WAIT}")
    if not any_server and (variables.get("read_only") or variables.get("super_read_only")):
        raise ConnectionLost("read-only, a replica")
    await link.run(f"SET {', '.join(f'SESSION {each}' for each in settings)}")


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


async def _examine(link: MysqlLink, pace: ServerLimits, any_version: bool, charset: str) -> Dialect:
    """Check that the server and the database meet the requirements; return the dialect that matches its keys."""
    row = await link.row("SELECT VERSION(), @@innodb_flush_log_at_trx_commit, @@sync_binlog, @@log_bin")
    assert row is not None
    maria = "MariaDB" in row[0]
    version = tuple(int(part) for part in row[0].split("-")[0].split(".")[:2])
    if version < ((10, 6) if maria else (8, 0)):
        raise ConfigurationError(f"{row[0]} is too old; MariaDB 10.6 or MySQL 8 is needed")
    log = structlog.get_logger(__name__)
    if row[1] != 1:
        log.warning("database_not_durable", setting="innodb_flush_log_at_trx_commit", value=row[1], needed=1)
    if row[3] and row[2] != 1 and not maria:
        log.warning("database_not_durable", setting="sync_binlog", value=row[2], needed=1)
    for tried in range(pace.tries):
        try:
            await creation.ensure(link, any_version=any_version)
            break
        except TransactionConflict as error:  # another server of the cluster created the same tables
            if tried + 1 == pace.tries:
                raise Db("The tables could not be made, for others were changing them all the time") from error
            await asyncio.sleep(0.05 * tried)
    column = await link.row(
        "SELECT LOWER(data_type) FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name = 'file' AND column_name = 'dkey'"
    )
    if column is not None and column[0] == "varbinary":
        dialect = MysqlDialect()
    else:
        dialect = LegacyMysqlDialect(charset, await _index_of_keys(link))
    galera = await link.row("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
    dialect.locks_are_local = galera is not None and _text(galera[1]).upper() == "ON"
    return dialect


async def _index_of_keys(link: MysqlLink) -> str | None:
    index = await link.row(
        "SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name = 'file'"
        " AND column_name = 'dkey' AND seq_in_index = 2"
    )
    return index[0] if index else None
