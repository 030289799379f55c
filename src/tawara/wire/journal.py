"""Encodes the files of a device's metadata journal: gzipped text (readable with `zcat`) that ends with a checksum.

Files in the directory `names/` of a device:

    charter-0, charter-1    the cluster manifest, written alternately
    tail-0 … tail-7         the active segments, one of which is rewritten at a time
    a/000001, a/000002, …   segments, which are never changed (rounds alternate between a/ and b/)

Each is gzipped JSON lines: a head, the records, and a last line with the number of the lines before it and the SHA-256
of their bytes. Keys are escaped as in the tracker's line protocol (docs/mogilefs.md 2.2), so they are ASCII.
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
MANIFEST: Final = "charter"
"""The stored word for a cluster manifest: in the names of its files, and their type."""
ACTIVE_SLOTS: Final = 8
LARGEST: Final = 64 * 1024 * 1024
"""Most bytes of a journal file that are read."""
_FORMAT: Final = 1
_Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=COUNTED)]
"""A number in a sequence, limited so that the reader can continue counting from it."""
_Id: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=HIGHEST_ID)]


class Damaged(Exception):
    """A journal file is damaged or has another format."""


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line of a journal file."""

    tawara: str
    """Type of the file: `names` for records, MANIFEST for the cluster manifest."""
    format: int = _FORMAT
    device: _Id
    generation: _Count
    round: _Count = 0
    """Number of the round (compaction) of the device's journal, increasing through all generations."""
    segment: _Count = 0
    """For a segment, its number; for an active segment, the number of the last segment before it."""
    before: _Count = 0
    """For a segment, the number of the previous segment of this round, which may be less by more than one."""
    active_segment: _Count = msgspec.field(default=0, name="tail")
    """For an active segment, its increasing number."""
    epoch: _Count = 0
    """How many times another worker has taken over the journal from a failed worker."""
    complete: bool = False
    """Whether the round is complete with this segment."""
    highest_fid: _Number = 0
    """The highest fid that had been assigned when the file was written."""
    number: _Count = 0
    """For a cluster manifest, its increasing number."""


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
    etag: str | None = None
    attributes: bytes | None = None
    """In base64, as msgspec encodes bytes."""


class _End(msgspec.Struct, frozen=True):
    lines: int
    sha256: str


_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(_Line)


def segment_path(round_: int, segment: int) -> str:
    """Return the path of a segment, relative to the device's directory. Rounds alternate between two directories."""
    return f"{DIRECTORY}/{'ab'[round_ % 2]}/{segment:06d}"


def active_segment_path(slot: int) -> str:
    """Return the path of an active segment."""
    return f"{DIRECTORY}/tail-{slot}"


def manifest_path(number: int) -> str:
    """Return the path of a cluster manifest."""
    return f"{DIRECTORY}/{MANIFEST}-{number % 2}"


def active_slot(epoch: int, active_segment: int) -> int:
    """Return the slot to write an active segment to.

    It is neither the slot of the previous active segment nor one that a previous worker may still write to.
    """
    return epoch % (ACTIVE_SLOTS // 2) * 2 + active_segment % 2


def encode_record(record: JournalRecord) -> bytes:
    """Encode a record as a line without LF."""
    facts = record.facts
    if facts is None:
        gone = record.state is RecordState.GONE
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
            etag=facts.etag,
            attributes=facts.attributes,
        )
    )


def decode_record(line: bytes) -> JournalRecord:
    """Decode a line. Raises Damaged."""
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
    facts = FileMetadata(
        each.domain,
        key,
        each.storage_class,
        each.length,
        each.stored,
        each.type,
        checksum,
        each.etag,
        each.attributes,
    )
    return JournalRecord(each.v, each.fid, RecordState.HERE, facts)


def pack(head: Head, lines: Sequence[bytes]) -> bytes:
    """Encode a file with this head and these lines."""
    body = b"\n".join([_encoder.encode(head), *lines]) + b"\n"
    end = _encoder.encode(_End(len(lines) + 1, hashlib.sha256(body).hexdigest()))
    return gzip.compress(body + end + b"\n", compresslevel=1, mtime=0)


def unpack(packed: bytes) -> tuple[Head, list[bytes]]:
    """Decode a file into head and lines. Raises Damaged if the checksum does not match."""
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
    """Decode the records of a file. Raises Damaged."""
    return [decode_record(line) for line in lines]


def encode_manifest(head: Head, manifest: dict[str, Any]) -> bytes:
    """Encode a cluster manifest: one line with the rows of each table."""
    return pack(head, [_encoder.encode({table: rows}) for table, rows in sorted(manifest.items())])


def decode_manifest(lines: Iterable[bytes]) -> dict[str, Any]:
    """Decode a cluster manifest. Raises Damaged, also for numbers that no database can store."""
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
