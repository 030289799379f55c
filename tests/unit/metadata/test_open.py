"""Opening a database by URL: the file of a SQLite URL, and that reading creates none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tawara.cli.assembly import database_url
from tawara.cli.configuration import Configuration, StoreSection
from tawara.metadata.open import open_existing, open_metadata
from tawara.model.errors import ConfigurationError

ODD = ["a%20b", "what?1", "what?2", "x#y", "俵", "a b", "%", "sqlite:x", "?mode=ro"]


@pytest.mark.parametrize("name", ODD)
async def test_a_path_is_taken_literally(name: str, tmp_path: Path) -> None:
    """A path with characters that are special in a URL names exactly that file, as a directory and as a file."""
    (tmp_path / name).mkdir()
    for url in (
        database_url(Configuration(), tmp_path / name),
        database_url(Configuration(store=StoreSection(database=f"sqlite:{name}.db")), tmp_path / name),
        f"sqlite://{tmp_path}/{name}/absolute{name}.db",
    ):
        metadata = await open_metadata(url)
        await metadata.close()
    names = {path.name for path in (tmp_path / name).glob("*.db")}
    assert names == {"tawara.db", f"{name}.db", f"absolute{name}.db"}
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("url", ["sqlite:", "sqlite:///", "sqlite://host/path", "nothing", "oracle://x/y"])
async def test_a_url_without_a_database_is_refused(url: str) -> None:
    """A URL without a path, with a host for SQLite, or of another engine is a configuration error."""
    with pytest.raises(ConfigurationError):
        await open_metadata(url)


async def test_reading_creates_no_database(tmp_path: Path) -> None:
    """A database that does not exist, or has no tables of Tawara, is refused and left unchanged."""
    with pytest.raises(ConfigurationError, match="There is no database"):
        await open_existing(f"sqlite:{tmp_path}/none.db")
    (tmp_path / "empty.db").touch()
    with pytest.raises(ConfigurationError):
        await open_existing(f"sqlite:{tmp_path}/empty.db")
    assert (tmp_path / "empty.db").stat().st_size == 0
    assert not (tmp_path / "none.db").exists()


async def test_files_that_a_url_needs_are_named(tmp_path: Path) -> None:
    """A password file that is not text, and unreadable certificates, are errors with the file's name."""
    (tmp_path / "password").write_bytes(b"\xff\n")
    with pytest.raises(ConfigurationError, match=f"{tmp_path}/password is not text"):
        await open_metadata("postgresql://u@127.0.0.1:1/d", password_file=tmp_path / "password")
    for certificates in ("password", "none.pem"):
        with pytest.raises(ConfigurationError, match=f"ssl_ca={tmp_path}/{certificates}"):
            await open_metadata(f"mysql://u@127.0.0.1:1/d?ssl_ca={tmp_path}/{certificates}")
