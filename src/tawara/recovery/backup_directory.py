"""A backup directory: deduplicated chunks of rows, and for each backup a list of its chunks.

    chunks/ab/abcd….gz      gzip of lines of JSON: the columns, then the rows; named by the SHA-256 of those lines
    backup-000001.json      the list of a backup: tables with their chunks; then a line with the SHA-256 of the first

A chunk is durable before a list refers to it, and a list is written atomically. Backups are independent except for the
chunks that they share.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tawara.metadata.backup import Chunk
from tawara.model.errors import ChecksumMismatch, NoneMatch

FORMAT = 1


class Part(msgspec.Struct, frozen=True):
    """An entry for a chunk in a list."""

    table: str
    first: int
    rows: int
    sha256: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The list of a backup."""

    tawara: str = "backup"
    format: int = FORMAT
    number: int
    taken_at: int
    """Time of the backup, unix seconds."""
    highest_fid: int
    parts: list[Part]


class BackupDirectory:
    """Reads, writes and prunes the backups of a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.written = 0
        """Bytes of new chunks written."""
        self._used: set[Path] = set()
        self._new: list[Path] = []

    def numbers(self) -> list[int]:
        """Numbers of the backups, oldest first."""
        return sorted(int(path.stem.partition("-")[2]) for path in self._directory.glob("backup-[0-9]*.json"))

    def keep_chunk(self, chunk: Chunk) -> Part:
        """Write a chunk unless it exists. Raises OSError."""
        lines = [msgspec.json.encode(chunk.columns), *map(msgspec.json.encode, chunk.rows)]
        body = b"\n".join(lines) + b"\n"
        digest = hashlib.sha256(body).hexdigest()
        path = self._chunk(digest)
        self._used.add(path.parent)
        if not path.exists():
            packed = gzip.compress(body, compresslevel=6, mtime=0)
            _make_directory(path.parent)
            _write(path, packed)
            self._new.append(path)
            self.written += len(packed)
        return Part(chunk.table, chunk.first, len(chunk.rows), digest)

    def keep_list(self, listing: Listing) -> None:
        """Write the list of a complete backup. Raises OSError."""
        for directory in self._used:  # an existing one may be left by an attempt that ended before its fsync
            _sync(directory)
        body = msgspec.json.encode(listing)
        _write(self._list(listing.number), body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n")
        _sync(self._directory)

    def listing(self, number: int | None = None) -> Listing:
        """Read the list of a backup, the newest by default. Raises NoneMatch, ChecksumMismatch."""
        there = self.numbers()
        if not there or (number is not None and number not in there):
            raise NoneMatch(f"Not found: the backup in {self._directory}", hint=f"There are: {there or 'none'}.")
        path = self._list(there[-1] if number is None else number)
        body, _, rest = path.read_bytes().partition(b"\n")
        if hashlib.sha256(body).hexdigest().encode() != rest.strip():
            raise ChecksumMismatch(f"{path} is damaged")
        return msgspec.json.decode(body, type=Listing)

    def newest(self) -> Listing | None:
        """Return the newest backup with an undamaged list; None without one."""
        return next(filter(None, map(self._readable, reversed(self.numbers()))), None)

    def _readable(self, number: int) -> Listing | None:
        try:
            return self.listing(number)
        except ChecksumMismatch:
            return None

    def discard(self) -> None:
        """Remove the chunks written for an abandoned backup."""
        for path in self._new:
            path.unlink()
        self._new.clear()

    def chunks(self, listing: Listing) -> Iterator[Chunk]:
        """Yield the chunks of a backup. Raises ChecksumMismatch for a damaged or missing one."""
        for part in listing.parts:
            path = self._chunk(part.sha256)
            try:
                body = gzip.decompress(path.read_bytes())
            except (OSError, EOFError, zlib.error) as error:
                raise ChecksumMismatch(f"{path}: {error}") from error
            if hashlib.sha256(body).hexdigest() != part.sha256:
                raise ChecksumMismatch(f"{path} is damaged")
            columns, *rows = (msgspec.json.decode(line) for line in body.splitlines())
            yield Chunk(part.table, part.first, tuple(columns), rows)

    def prune(self, keep: int) -> list[int]:
        """Remove all but the newest `keep` backups, and unreferenced chunks; return the numbers of removed backups.

        The newest backup that has files is never removed.
        """
        numbers = self.numbers()
        kept = [self.listing(number) for number in numbers[-keep:]]
        if not any(files_in(listing) for listing in kept):
            older = map(self._readable, reversed(numbers[:-keep]))
            kept += [listing for listing in older if listing and files_in(listing)][:1]
        removed = sorted(set(numbers) - {listing.number for listing in kept})
        needed = {part.sha256 for listing in kept for part in listing.parts}
        for number in removed:
            self._list(number).unlink()
        _sync(self._directory)
        for path in self._directory.glob("chunks/*/*.gz"):
            if path.stem not in needed:
                path.unlink()
        return removed

    def prepare(self) -> None:
        """Create the directory. Raises OSError."""
        _make_directory(self._directory)

    def _chunk(self, digest: str) -> Path:
        return self._directory / "chunks" / digest[:2] / f"{digest}.gz"

    def _list(self, number: int) -> Path:
        return self._directory / f"backup-{number:06d}.json"


def files_in(listing: Listing | None) -> int:
    """Return the number of files of a backup; 0 for None."""
    return sum(part.rows for part in listing.parts if part.table == "file") if listing else 0


def _make_directory(directory: Path) -> None:
    if not directory.exists():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        _sync(directory.parent)


def _write(path: Path, content: bytes) -> None:
    """Write a file atomically; its name is durable once the directory is synced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def summary(listing: Listing) -> dict[str, Any]:
    """Return a backup's number, time and rows by table."""
    rows: dict[str, int] = {}
    for part in listing.parts:
        rows[part.table] = rows.get(part.table, 0) + part.rows
    return {"number": listing.number, "taken_at": listing.taken_at, "rows": rows}
