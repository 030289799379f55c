"""Databases as MogileFS 2.73 makes them, on each engine, and their schemas as text, to be compared."""

from __future__ import annotations

import re
import sqlite3
import subprocess
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.contract.servers import PASSWORD, Server, _program

HERE = Path(__file__).parent


def statements(engine: str) -> list[str]:
    """The statements of mogdbsetup."""
    text = (HERE / f"{engine}.sql").read_text()
    return [each for each in (each.strip() for each in text.split(";\n")) if each]


def make(engine: str, url: str, server: Server | None, before: Sequence[str] = ()) -> None:
    """Create the tables in the empty database at `url`, after the statements `before`."""
    if server is None:
        connection = sqlite3.connect(path_of(url))
        connection.executescript(";\n".join([*before, *statements(engine)]))
        connection.close()
    else:
        server.execute(database_of(url), [*before, *statements(engine)])


def path_of(url: str) -> Path:
    """The file of a SQLite URL."""
    return Path(urlsplit(url).path)


def database_of(url: str) -> str:
    """The name of a server's database in its URL."""
    return urlsplit(url).path.strip("/")


def schema(url: str) -> str:
    """All tables, columns and indexes, as the engine's own tools print them; no rows and no counters."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        connection = sqlite3.connect(path_of(url))
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name").fetchall()
        connection.close()
        return "\n".join(map(str, rows))
    option = parse_qs(parts.query)["host" if parts.scheme == "postgresql" else "unix_socket"][0]
    if parts.scheme == "postgresql":
        program = [_program("pg_dump", "usr/lib/postgresql/*/bin"), "-h", option, "-U", "tawara", "--schema-only"]
        variable = "PGPASSWORD"
    else:
        program = [_program("mariadb-dump", "usr/bin"), "--no-defaults", f"--socket={option}", "-u", "tawara", "-d"]
        variable = "MYSQL_PWD"
    text = subprocess.run(
        [*program, database_of(url)], env={variable: PASSWORD}, check=True, capture_output=True
    ).stdout.decode()
    # MySQL remembers of a column whether its character set was said or came from the table; there is no difference.
    text = text.replace(" CHARACTER SET latin1 COLLATE latin1_swedish_ci", "")
    lines = (re.sub(r" AUTO_INCREMENT=\d+", "", line) for line in text.splitlines())
    return "\n".join(line for line in lines if not line.startswith(("-- ", "\\")))
