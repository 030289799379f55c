"""Opens the database of a configured URL: selects the engine, reads the password, and creates missing tables."""

from __future__ import annotations

import os
from pathlib import Path

from tawara.metadata import migrations
from tawara.metadata.contract import Metadata
from tawara.metadata.creation import check_own_version
from tawara.metadata.hosts import split_url
from tawara.metadata.server import ServerLimits
from tawara.model.errors import ConfigurationError

_PASSWORD_VARIABLES = {"postgresql": ("TAWARA_DB_PASSWORD", "PGPASSWORD"), "mysql": ("TAWARA_DB_PASSWORD", "MYSQL_PWD")}
_ENGINES = {
    "sqlite": "sqlite",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}


async def open_metadata(
    url: str,
    *,
    password_file: Path | None = None,
    password: str | None = None,
    pace: ServerLimits | None = None,
    any_version: bool = False,
) -> Metadata:
    """Open the database at `url`, and create the tables if it is empty.

    `sqlite:///var/lib/tawara/tawara.db` (an absolute path; `sqlite:here.db` is a relative one; both are literal),
    `postgresql://user@host:5432/database` (also `?host=/directory/of/the/socket`, `?sslmode=verify-full`),
    `mysql://user@host:3306/database` (also `?unix_socket=/path`, `?ssl_ca=/path`; `?keys=latin1` for a MogileFS
    database whose trackers used Latin-1 connections). A server's URL may name several hosts, as in
    `mysql://user@db1,db2:3307/database`: the first that responds and is not read-only is used
    (`?target_session_attrs=read-write`, the default).

    The password is `password`, or is read from `password_file`, or from the variables TAWARA_DB_PASSWORD, PGPASSWORD,
    MYSQL_PWD. A password in the URL is refused, because URLs are shown in logs and process lists. `any_version` opens a
    database whose Tawara tables are missing or of another version, and creates none; for `adoption` and `migrations`
    only. Raises ConfigurationError if the URL is invalid or the database unsuitable, Db if it does not respond.
    """
    scheme, _, rest = url.partition(":")
    if _ENGINES.get(scheme) == "sqlite":
        return _open_sqlite(rest, any_version)
    parts = split_url(url)
    engine = _ENGINES.get(parts.scheme)
    if engine is None:
        raise ConfigurationError(
            f"{parts.scheme or 'The database URL'} is not an engine of ours",
            hint="sqlite:///path, postgresql://user@host/database or mysql://user@host/database",
        )
    if parts.password is not None:
        raise ConfigurationError(
            "A database URL must not contain the password",
            hint="Put it into a file that only the daemon can read, or into TAWARA_DB_PASSWORD.",
        )
    if not parts.path.strip("/"):
        raise ConfigurationError("The database URL names no database", hint=f"{engine}://user@host/database")
    if password is None:
        password = _password(engine, password_file)
    if engine == "postgresql":
        from tawara.metadata.postgres import open_postgres

        return await open_postgres(url, password, pace, any_version=any_version)
    from tawara.metadata.mysql_opening import open_mysql

    return await open_mysql(url, password, pace, any_version=any_version)


async def open_existing(url: str, *, password_file: Path | None = None, pace: ServerLimits | None = None) -> Metadata:
    """Open the database at `url` as `open_metadata` does, but only if it is of this version; nothing is created."""
    metadata = await open_metadata(url, password_file=password_file, pace=pace, any_version=True)
    try:
        found = await metadata.read(migrations.version)
        check_own_version(str(found) if found else None)
    except BaseException:
        await metadata.close()
        raise
    return metadata


def _open_sqlite(rest: str, any_version: bool) -> Metadata:
    """`rest` is what follows `sqlite:`. A path is taken literally, including `%`, `?` and `#`."""
    from tawara.metadata.sqlite import SqliteMetadata

    path = f"/{rest.lstrip('/')}" if rest.startswith("///") else rest
    if path.startswith("//") or not path.strip("/"):
        raise ConfigurationError("A SQLite URL has three slashes and a path", hint="sqlite:///var/lib/tawara/tawara.db")
    file = Path(path)
    if any_version and not file.exists():
        raise ConfigurationError(f"There is no database {file}")
    return SqliteMetadata.open(file, any_version=any_version)


def _password(engine: str, file: Path | None) -> str | None:
    if file is not None:
        try:
            return file.read_text("utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigurationError(f"The password file {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ConfigurationError(f"The password file {file} is not text (UTF-8)") from None
    return next((os.environ[name] for name in _PASSWORD_VARIABLES[engine] if name in os.environ), None)
