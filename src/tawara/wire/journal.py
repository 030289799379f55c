"""The files in which a device carries the names of what it holds: text that `zcat` shows, with a checksum at its end.

Below the device's directory, `names/`:

    charter-0, charter-1    the cluster manifest, written alternately
    tail-0 … tail-7         the active segments, one of which is rewritten at a time
    a/000001, a/000002, …   segments: records that are written once (or in b/: rounds take turns)

Each is gzip of lines of JSON: a head, the records, and a last line that has the number of lines before it and the
SHA-256 of their bytes. Keys are escaped as in the tracker's line protocol (docs/mogilefs.md 2.2), so they are ASCII.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from tawara.model.cluster import Checksum
from tawara.model.fid import COUNTED, HIGHEST, HIGHEST_ID, fits
from tawara.model.journal_records import FileMetadata, JournalRecord, RecordState
from tawara.wire.line import escape, unescape

DIRECTORY: Final = "names"
ACTIVE_SLOTS: Final = 8
LARGEST: Final = 64 * 1024 * 1024
"""Bytes up to which such a file is read."""
_FORMAT: Final = 1
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=COUNTED)]
"""For journals numbered one by one: the reader counts on from it."""
_Id: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_ID)]


class Damaged(Exception):
    """A file is not, or not any more, as it was written."""


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of a file of names."""

    tawara: str
    """`names` or `charter`."""
    format: int = _FORMAT
    device: _Id
    generation: _Count
    round: _Count = 0
    """Of the device's journal, counted through all generations."""
    segment: _Count = 0
    """For a segment, its number; for a tail, that of the last segment before it."""
    before: _Count = 0
    """For a segment, the number of the one before it in this round, which need not be one less."""
    active_segment: _Count = msgspec.field(default=0, name="tail")
    """For a tail, its number, which grows."""
    epoch: _Count = 0
    """How often another worker has taken over from one that did not come back."""
    complete: bool = False
    """Whether with this segment all is written that the round has to bring."""
    highest_fid: _Number = 0
    """That was given out when this was written."""
    number: _Count = 0
    """For a manifest, its increasing number."""


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record as JSON."""

    v: _Number
    fid: _Number
    domain: _Id | None = None
    key: str | None = None
    storage_class: _Id = msgspec.field(default=0, name="class")
    length: _Number | None = None
    stored: _Number | None = None
    type: str | None = None
    sum: str | None = None
    gone: bool = False
    away: bool = False


class _End(msgspec.Struct, frozen=True):
    lines: int
    sha256: str


_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(_Line)


def segment_path(round_: int, segment: int) -> str:
    """Where a segment is, below the device's directory. Rounds take turns with the two directories."""
    return f"{DIRECTORY}/{'ab'[round_ % 2]}/{segment:06d}"


def active_segment_path(slot: int) -> str:
    """Where a tail is."""
    return f"{DIRECTORY}/tail-{slot}"


def manifest_path(number: int) -> str:
    """Return the path of a cluster manifest."""
    return f"{DIRECTORY}/charter-{number % 2}"


def active_slot(epoch: int, active_segment: int) -> int:
    """Which of the slots a tail is written to: never the one before's, nor one that a predecessor may still write."""
    return epoch % (ACTIVE_SLOTS // 2) * 2 + active_segment % 2


def encode_record(record: JournalRecord) -> bytes:
    """A record as a line without its end."""
    facts = record.facts
    if facts is None:
        gone = record.standing is RecordState.GONE
        return _encoder.encode(_Line(record.version, record.fid, gone=gone, away=not gone))
    return _encoder.encode(
        _Line(
            record.version,
            record.fid,
            facts.dmid,
            escape(facts.key).decode(),
            facts.classid,
            facts.length,
            facts.stored_at,
            facts.content_type,
            str(facts.checksum) if facts.checksum else None,
        )
    )


def decode_record(line: bytes) -> JournalRecord:
    """The inverse. Raises Damaged."""
    try:
        each = _line_decoder.decode(line)
    except msgspec.MsgspecError as error:
        raise Damaged(f"a line makes no sense: {error}") from error
    if each.gone or each.away:
        return JournalRecord(each.v, each.fid, RecordState.GONE if each.gone else RecordState.AWAY)
    if each.domain is None or each.key is None or each.length is None:
        raise Damaged("a record has no domain, key or length")
    checksum = Checksum.parse(each.sum) if each.sum else None
    key = unescape(each.key.encode())
    facts = FileMetadata(each.domain, key, each.storage_class, each.length, each.stored, each.type, checksum)
    return JournalRecord(each.v, each.fid, RecordState.HERE, facts)


def pack(head: Head, lines: Sequence[bytes]) -> bytes:
    """A file of these lines."""
    body = b"\n".join([_encoder.encode(head), *lines]) + b"\n"
    end = _encoder.encode(_End(len(lines) + 1, hashlib.sha256(body).hexdigest()))
    return gzip.compress(body + end + b"\n", compresslevel=1, mtime=0)


def unpack(packed: bytes) -> tuple[Head, list[bytes]]:
    """Head and lines of a file. Raises Damaged unless every byte is as it was written."""
    try:
        text = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise Damaged(f"not whole: {error}") from error
    body, end = _split_end(text)
    try:
        last = msgspec.json.decode(end, type=_End)
        lines = body[:-1].split(b"\n")
        if hashlib.sha256(body).hexdigest() != last.sha256 or len(lines) != last.lines:
            raise Damaged("the checksum is wrong")
        return msgspec.json.decode(lines[0], type=Head), lines[1:]
    except msgspec.MsgspecError as error:
        raise Damaged(f"not a file of names: {error}") from error


def _split_end(text: bytes) -> tuple[bytes, bytes]:
    start = text.rfind(b"\n", 0, len(text) - 1) + 1
    return text[:start], text[start:-1]


def decode_records(lines: Iterable[bytes]) -> list[JournalRecord]:
    """The records of a file's lines. Raises Damaged."""
    return [decode_record(line) for line in lines]


def encode_manifest(head: Head, manifest: dict[str, Any]) -> bytes:
    """A file of what the cluster is made of: one line for each table's rows."""
    return pack(head, [_encoder.encode({table: rows}) for table, rows in sorted(manifest.items())])


def decode_manifest(lines: Iterable[bytes]) -> dict[str, Any]:
    """The inverse. Raises Damaged, also for numbers that no database can hold."""
    manifest: dict[str, list[dict[str, Any]]] = {}
    try:
        for line in lines:
            manifest.update(msgspec.json.decode(line, type=dict[str, list[dict[str, Any]]]))
    except msgspec.MsgspecError as error:
        raise Damaged(f"not a cluster manifest: {error}") from error
    for table, rows in manifest.items():
        for column, value in ((column, value) for row in rows for column, value in row.items()):
            if not fits(column, value):
                raise Damaged(f"the cluster manifest has {column} {value} in {table}")
    return manifest
