"""Setup of the connections to a SQLite file."""

from __future__ import annotations

from pathlib import Path

from tawara.metadata.sqlite import MMAP_BYTES, SqliteMetadata


async def test_only_the_reader_uses_memory_mapping(tmp_path: Path) -> None:
    """The reader maps as much of the file as SQLite can; the writer uses system calls."""
    metadata = SqliteMetadata.open(tmp_path / "tawara.db")
    try:
        (size,) = metadata._reader.execute("PRAGMA mmap_size").fetchone()
        assert size == MMAP_BYTES
        (size,) = metadata._writer_connection.execute("PRAGMA mmap_size").fetchone()
        assert size == 0
    finally:
        await metadata.close()
