"""Opening a database by its URL: what is opened, created, and refused with a message."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tawara.metadata import cluster, migrations, schema_version
from tawara.metadata.contract import Transaction
from tawara.metadata.open import open_metadata
from tawara.model.errors import ConfigurationError, Db
from tests.contract.servers import PASSWORD, Server

of_servers = pytest.mark.parametrize("engine", ["postgresql", "mysql"], indirect=True)


async def test_an_empty_database_is_created_once(blank_url: str) -> None:
    """Several processes that open an empty database at once get one complete schema; it can be opened again."""
    opened = await asyncio.gather(*(open_metadata(blank_url) for _ in range(1 if "sqlite" in blank_url else 3)))
    for metadata in opened:
        loaded = await metadata.read(cluster.load)
        assert loaded.settings["schema_version"] == "17"
        assert loaded.settings["tawara_schema_version"] == str(schema_version.TAWARA)
        await metadata.close()
    again = await open_metadata(blank_url)
    await again.write(cluster.create_domain, "d")
    await again.close()


async def test_another_schema_version_is_refused(blank_url: str) -> None:
    """A database whose schema_version is not 17 is refused, and the message has its version."""
    metadata = await open_metadata(blank_url)
    await metadata.write(cluster.set_setting, "schema_version", "16")
    await metadata.close()
    with pytest.raises(ConfigurationError, match="schema version 16"):
        await open_metadata(blank_url)


@of_servers
async def test_a_foreign_database_is_refused(blank_url: str) -> None:
    """A table `file` without `server_settings`, and a MogileFS that was not adopted, are left unchanged."""
    metadata = await open_metadata(blank_url)

    async def foreign(tx: Transaction) -> None:
        await tx.run("DROP TABLE server_settings")

    await metadata.write(migrations.migrate, to=0)
    with pytest.raises(ConfigurationError, match="MogileFS") as caught:
        await open_metadata(blank_url)
    assert "tawara adopt" in (caught.value.hint or "")
    await metadata.write(foreign)
    with pytest.raises(ConfigurationError, match="something else"):
        await open_metadata(blank_url)
    await metadata.close()


@of_servers
async def test_passwords(blank_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is read from a file or the environment; a wrong one is reported and never shown."""
    monkeypatch.delenv("TAWARA_DB_PASSWORD")
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    await (await open_metadata(blank_url, password_file=file)).close()
    monkeypatch.setenv("PGPASSWORD" if "postgres" in blank_url else "MYSQL_PWD", PASSWORD)
    await (await open_metadata(blank_url)).close()
    monkeypatch.setenv("TAWARA_DB_PASSWORD", "Wrong-4711")
    with pytest.raises(ConfigurationError) as caught:
        await open_metadata(blank_url)
    assert "4711" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="password file"):
        await open_metadata(blank_url, password_file=tmp_path / "none")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://u@h/d", "oracle"),
        ("", "not an engine"),
        ("postgresql://u:secret@h/d", "must not contain the password"),
        ("mysql://u:secret@h/d", "must not contain the password"),
        ("mysql://u@h", "names no database"),
        ("mysql://u@h/d?sslmode=x", "unknown options"),
        ("sqlite://host/path", "three slashes"),
        ("sqlite:///", "three slashes"),
    ],
)
async def test_an_invalid_url(url: str, message: str) -> None:
    """The error says what is wrong with the URL, and never repeats a password."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        await open_metadata(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_a_missing_server(scheme: str, tmp_path: Path) -> None:
    """Opening raises Db if no server listens."""
    option = "host" if scheme == "postgresql" else "unix_socket"
    with pytest.raises(Db, match="does not answer"):
        await open_metadata(f"{scheme}://u@/d?{option}={tmp_path}/none")


async def test_sqlite_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes precede an absolute path, two a relative one; the file is private to its owner."""
    monkeypatch.chdir(tmp_path)
    await (await open_metadata("sqlite:here.db")).close()
    await (await open_metadata(f"sqlite://{tmp_path}/there.db")).close()
    for name in ("here.db", "there.db"):
        assert os.stat(tmp_path / name).st_mode & 0o077 == 0
    with pytest.raises(ConfigurationError):
        (tmp_path / "noise").write_bytes(b"no database at all" * 100)
        await open_metadata(f"sqlite://{tmp_path}/noise")


def test_a_missing_installation_is_reported(monkeypatch: pytest.MonkeyPatch, servers: Callable[[str], Server]) -> None:
    """Without an installed database server, the tests fail with the command that installs it."""
    from tests.contract import servers as launching

    monkeypatch.setenv("PATH", "")
    with pytest.raises(launching.NotInstalled, match="bin/setup-databases"):
        launching._program("no-such-server", "usr/lib/nowhere/*/bin")
