"""How the connections to a SQLite file are set up."""

from __future__ import annotations

from pathlib import Path

from tawara.metadata.sqlite import MMAP_BYTES, SqliteMetadata


async def test_look_ups_read_by_memory_mapping_and_the_writer_does_not(tmp_path: Path) -> None:
    """The reader maps as much of the file as SQLite can; the writer, and what it writes, goes by system calls."""
    metadata = SqliteMetadata.open(tmp_path / "tawara.db")
    try:
        (size,) = metadata._reader.execute("PRAGMA mmap_size").fetchone()
        assert size == MMAP_BYTES
        (size,) = metadata._writer_connection.execute("PRAGMA mmap_size").fetchone()
        assert size == 0
    finally:
        await metadata.close()
