"""Converts a mogilefsd.conf to Tawara's settings; lists options without an equivalent (docs/mogilefs.md 19)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from tawara.model.errors import ConfigurationError

_LINE = re.compile(r"(\w+)(?:\s+(?:=\s*)?|=\s*)(.*)", re.ASCII)
_DSN = re.compile(r"dbi:(\w+)(?:\([^)]*\))?:(.*)", re.IGNORECASE | re.DOTALL)
_DEFAULT_DSN = "DBI:mysql:mogilefs"
_DEFAULT_USER = "mogile"
_PORT = 7001


@dataclass(frozen=True, slots=True)
class ConvertedConfiguration:
    """A converted mogilefsd.conf."""

    database: str
    """URL of the database, without the password."""
    password: str = field(repr=False)
    settings: Mapping[str, str | int]
    """`section.name` -> value, for tawara.toml."""
    notes: tuple[tuple[str, str], ...]
    """Options that are set but have no exact equivalent, each with an explanation."""


def parse(text: str) -> dict[str, str]:
    """Parse a file into keys and values. Raises ConfigurationError with the number of a malformed line."""
    values: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            # The message does not quote the line, which may contain a password.
            raise ConfigurationError(f"mogilefsd.conf, line {number}: neither `key = value` nor a comment")
        values[found[1]] = found[2].strip()
    return values


def move(values: Mapping[str, str]) -> ConvertedConfiguration:
    """Convert the values. Raises ConfigurationError for an invalid value, without quoting it."""
    notes: list[tuple[str, str]] = []
    settings: dict[str, str | int] = {"tracker.listen": _listen(values, notes)}
    for key, setting in _NUMBERS.items():
        if key in values:
            settings[setting] = _number(values, key)
    if "mogstored_stream_port" in values:
        settings["node.side_channel"] = f"127.0.0.1:{_number(values, 'mogstored_stream_port')}"
    for key, value in values.items():
        note = _NOTES.get(key)
        if note is not None:
            notes.append((key, note(value) if callable(note) else note))
        elif key not in _MATCHED:
            notes.append((key, "not a key of mogilefsd 2.73; left out"))
    user = values.get("db_user", _DEFAULT_USER)
    database = database_url(values.get("db_dsn", _DEFAULT_DSN), user, notes)
    return ConvertedConfiguration(
        database, values.get("db_pass", ""), settings, tuple(note for note in notes if note[1])
    )


def _listen(values: Mapping[str, str], notes: list[tuple[str, str]]) -> str:
    port = _number(values, "conf_port") if "conf_port" in values else _PORT
    addresses = [each.strip() for each in values.get("listen", "0.0.0.0").split(",") if each.strip()] or ["0.0.0.0"]  # noqa: S104 - the original's default
    if len(addresses) > 1:
        notes.append(("listen", f"a tracker listens on one address; {', '.join(addresses[1:])}: run one for each"))
    host, colon, own_port = addresses[0].rpartition(":")
    if colon and not own_port.isdecimal():
        raise ConfigurationError("mogilefsd.conf: listen is not a list of IP[:PORT]")
    return addresses[0] if colon else f"{addresses[0] or host}:{port}"


def _number(values: Mapping[str, str], key: str) -> int:
    value = values[key]
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise ConfigurationError(f"mogilefsd.conf: {key} is not a number")
    return int(value)


_NUMBERS: Final = {"min_free_space": "store.min_free_mb", "default_mindevcount": "store.mindevcount"}
_MATCHED: Final = {
    "db_dsn",
    "db_user",
    "db_pass",
    "conf_port",
    "listen",
    "mogstored_stream_port",
    *_NUMBERS,
}
_SERVICE: Final = "up to the service manager (systemd)"
_PROCESSES: Final = "one process serves all clients; more with `tawara tracker --processes N`"
_WORKERS: Final = "`tawara workers` does all care in one process; see [workers] in tawara.toml"
_PACE: Final = "storage nodes have 2 s to accept a connection, and as long as bytes move; no setting is needed"


def _unless(ordinary: str, note: str) -> Callable[[str], str]:
    """Return a function that gives `note` for values other than the ordinary one."""
    return lambda value: "" if value == ordinary else note


_NOTES: Final[Mapping[str, str | Callable[[str], str]]] = {
    "node_timeout": _PACE,
    "conn_timeout": _PACE,
    "conn_pool_size": "connections to storage nodes are kept as needed",
    "query_jobs": _PROCESSES,
    "listener_jobs": _PROCESSES,
    "delete_jobs": _WORKERS,
    "replicate_jobs": _WORKERS,
    "fsck_jobs": _WORKERS,
    "reaper_jobs": _WORKERS,
    "monitor_jobs": _WORKERS,
    "job_master": _unless("1", "start no `tawara workers` on this machine"),
    "max_disk_age": "not used by mogilefsd either",
    "max_handles": "connections to the database are renewed when they are lost",
    "repl_use_get_port": _unless("0", "copies are read from http_port, not from http_get_port"),
    "local_network": "the network of this tracker is not preferred for copies",
    "rebalance_ignore_missing": _unless("0", "a file whose bytes are missing is not moved, but left to a check"),
    "no_schema_check": _unless("0", "the schema is always checked"),
    "plugins": lambda value: f"plugins are not run: {value}" if value else "",
    "daemonize": _SERVICE,
    "pidfile": _SERVICE,
    "user": _SERVICE,
    "debug": "[log] level in tawara.toml",
}
"""Options without an equivalent setting, and an explanation: a text, or a function of the value."""


# --- the database -----------------------------------------------------------------------------------------------------


def database_url(dsn: str, user: str, notes: list[tuple[str, str]]) -> str:
    """Convert a data source name of Perl's DBI to a URL; add lost parts to `notes`. Raises ConfigurationError."""
    found = _DSN.fullmatch(dsn.strip())
    driver = found[1].lower() if found else ""
    if found is None or driver not in _DRIVERS:
        raise ConfigurationError(
            "mogilefsd.conf: db_dsn is none of DBI:mysql:…, DBI:MariaDB:…, DBI:Pg:…, DBI:SQLite:…",
            hint="Give the database's URL instead.",
        )
    if driver == "sqlite":
        path = re.sub(r"^(?:dbname|database|db)=", "", found[2].split(";")[0])
        return f"sqlite://{quote(path)}" if path.startswith("/") else f"sqlite:{quote(path)}"
    options = _options(found[2], positional=driver != "pg")
    database = _take(options, "database", "dbname", "db")
    host = _take(options, "host", "hostname").strip("[]")
    port = _take(options, "port")
    socket = _take(options, "mysql_socket", "mariadb_socket")
    if port and not port.isdecimal():
        raise ConfigurationError("mogilefsd.conf: the port in db_dsn is not a number")
    if options:
        notes.append(("db_dsn", f"options left out: {', '.join(sorted(options))}"))
    query = ""
    if socket:
        query, host, port = f"?unix_socket={quote(socket)}", "", ""
    elif driver == "pg" and host.startswith("/"):
        query, host = f"?host={quote(host)}" + (f"&port={port}" if port else ""), ""
    elif driver != "pg" and host in ("", "localhost"):
        notes.append(("db_dsn", "the database is asked at 127.0.0.1; with ?unix_socket=PATH in the URL by its socket"))
        host = "127.0.0.1"
    place = f"[{host}]" if ":" in host else host
    if port and not query:
        place = f"{place or '127.0.0.1'}:{port}"
    return f"{_DRIVERS[driver]}://{quote(user, safe='')}@{place}/{quote(database, safe='')}{query}"


_DRIVERS: Final = {"mysql": "mysql", "mariadb": "mysql", "pg": "postgresql", "sqlite": "sqlite"}


def _options(text: str, *, positional: bool) -> dict[str, str]:
    """Parse the parts of a DSN: `name=value`, or with `positional` in the order database, host, port."""
    options: dict[str, str] = {}
    names = iter(("database", "host", "port")) if positional else iter(())
    for part in re.split(r"[;:](?![^\[\]]*\])" if positional else ";", text):
        name, equals, value = part.partition("=")
        position = next(names, None)
        if equals:
            options[name.strip()] = value.strip()
        elif part.strip() and position:
            options[position] = part.strip()
    return options


def _take(options: dict[str, str], *names: str) -> str:
    """Remove all of the names; return the value of the first that was present."""
    return next((value for value in [options.pop(name, "") for name in names] if value), "")
