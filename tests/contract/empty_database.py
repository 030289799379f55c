"""Empty databases of each engine, for one test."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from tawara.metadata.sqlite import SqliteMetadata
from tests.contract.servers import Server


@contextmanager
def empty_database(
    engine: str, directory: Path, servers: Callable[[str], Server], name: str = "blank"
) -> Iterator[str]:
    """The URL of a database without any table."""
    if engine == "sqlite":
        yield f"sqlite://{directory}/{name}.db"
        return
    unique = f"{name}_{uuid.uuid4().hex[:8]}"
    url = servers(engine).create(unique)
    try:
        yield url
    finally:
        servers(engine).drop(unique)


@lru_cache(maxsize=1)
def sqlite_with_tables() -> bytes:
    """A SQLite file with all tables and no rows, created once, because the schema takes longer than most tests."""
    directory = Path(mkdtemp())
    path = directory / "empty.db"

    async def make() -> None:
        await SqliteMetadata.open(path).close()

    asyncio.run(make())
    made = path.read_bytes()
    shutil.rmtree(directory)
    return made
