"""Parses XML bodies of requests, within limits, and reads the documents that the operations take.

Namespaces are ignored, because many clients send none or a wrong one; unknown elements are ignored, too. A document
type declaration is refused, and with it all entities that are not predefined.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from xml.parsers import expat

from tawara.model.multipart import MOST_PARTS, ListedPart, is_part_number
from tawara.model.object_checksums import ChecksumAlgorithm, parse_value
from tawara.wire.http import parse_date
from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.head import check_key
from tawara.wire.s3.tags import Tags, check_tags

LONGEST: Final = 4 * 1024 * 1024
"""Most bytes of a document."""
DEEPEST: Final = 16
MOST_NODES: Final = 50_000
MOST_DELETIONS: Final = 1000
_BLANKS: Final = b" \t\r\n"
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


@dataclass(slots=True)
class XmlNode:
    """An element: its name without namespace, its text and its elements."""

    name: str
    text: str = ""
    children: list[XmlNode] = field(default_factory=list)

    def child(self, name: str) -> XmlNode | None:
        """The first element of this name."""
        return next((each for each in self.children if each.name == name), None)

    def all(self, name: str) -> list[XmlNode]:
        """The elements of this name."""
        return [each for each in self.children if each.name == name]

    def value(self, name: str) -> str | None:
        """The text of the first element of this name, without blanks around it; None if it is absent."""
        found = self.child(name)
        return None if found is None else found.text.strip()


class _TooMuch(Exception):
    """The document exceeds a limit or has a document type declaration."""


class _Builder:
    """Receives expat's events."""

    def __init__(self) -> None:
        self.root = XmlNode("")
        self._open = [self.root]
        self._texts: list[list[str]] = [[]]
        self._nodes = 0

    def start(self, name: str, _attributes: Any) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES or len(self._open) > DEEPEST:
            raise _TooMuch
        node = XmlNode(name.rpartition("}")[2])
        self._open[-1].children.append(node)
        self._open.append(node)
        self._texts.append([])

    def end(self, _name: str) -> None:
        self._open.pop().text = "".join(self._texts.pop())

    def text(self, data: str) -> None:
        self._texts[-1].append(data)

    def declaration(self, *_: Any) -> None:
        raise _TooMuch


def parse_xml(body: bytes, root: str) -> XmlNode:
    """Parse a document in UTF-8 whose root element is `root`. Raises S3Fault (MalformedXML)."""
    body = body.lstrip(_BLANKS)
    # A NUL is in every document in UTF-16, which expat would recognise in spite of the encoding given here.
    if not body or len(body) > LONGEST or b"\0" in body:
        raise S3Fault(FaultCode.MALFORMED_XML)
    builder = _Builder()
    parser = expat.ParserCreate("utf-8", namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.StartDoctypeDeclHandler = builder.declaration
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, _TooMuch, ValueError):
        raise S3Fault(FaultCode.MALFORMED_XML) from None
    document = builder.root.children[0]
    if document.name != root:
        raise S3Fault(FaultCode.MALFORMED_XML)
    return document


# --- documents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyDeletion:
    """A key to delete, with its conditions."""

    key: bytes
    version_id: str | None = None
    etag: str | None = None
    """Delete only if the object has this entity tag; `*`: only if it exists."""
    modified_at: int | None = None
    """Delete only if the object was stored at this time, unix seconds."""
    length: int | None = None
    """Delete only if the object has this length in bytes."""

    @property
    def is_conditional(self) -> bool:
        """Whether there is a condition."""
        return self.etag is not None or self.modified_at is not None or self.length is not None


@dataclass(frozen=True, slots=True)
class DeletionList:
    """The request of DeleteObjects."""

    deletions: tuple[KeyDeletion, ...]
    quiet: bool
    """Whether only errors are answered."""


def parse_deletions(body: bytes) -> DeletionList:
    """Read the body of DeleteObjects. Raises S3Fault: MalformedXML also for no key and for more than 1,000."""
    document = parse_xml(body, "Delete")
    objects = document.all("Object")
    if not 1 <= len(objects) <= MOST_DELETIONS:
        raise S3Fault(FaultCode.MALFORMED_XML)
    deletions = []
    for each in objects:
        key = each.child("Key")
        if key is None or not key.text:
            raise S3Fault(FaultCode.MALFORMED_XML)
        encoded = key.text.encode()
        check_key(encoded)
        deletions.append(
            KeyDeletion(
                encoded,
                each.value("VersionId") or None,
                each.value("ETag") or None,
                parse_modified_at(each.value("LastModifiedTime")),
                parse_length(each.value("Size")),
            )
        )
    return DeletionList(tuple(deletions), (document.value("Quiet") or "").lower() == "true")


def parse_modified_at(text: str | None) -> int | None:
    """Read the time of a condition, in the form of RFC 9110 or of ISO 8601. Raises S3Fault (InvalidArgument)."""
    if not text:
        return None
    seconds = parse_date(text)
    if seconds is None:
        try:
            seconds = int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
        except (ValueError, OverflowError):
            raise invalid_argument("LastModifiedTime", text, "The time of the condition is not valid") from None
    return seconds


def parse_length(text: str | None) -> int | None:
    """Read the length of a condition. Raises S3Fault (InvalidArgument)."""
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,18}", text, re.ASCII):
        raise invalid_argument("Size", text, "The size of the condition is not a number")
    return int(text)


def parse_part_list(body: bytes, algorithm: ChecksumAlgorithm | None) -> tuple[ListedPart, ...]:
    """Read the body of CompleteMultipartUpload; checksums are those of the upload's algorithm.

    Raises S3Fault: MalformedXML also for an empty list, InvalidArgument for a number that no part can have,
    InvalidRequest for a malformed checksum.
    """
    parts = parse_xml(body, "CompleteMultipartUpload").all("Part")
    if not 1 <= len(parts) <= MOST_PARTS:
        raise S3Fault(FaultCode.MALFORMED_XML)
    listed = []
    for each in parts:
        number, etag = each.value("PartNumber"), each.value("ETag")
        if number is None or not etag or _NUMBER.fullmatch(number) is None:
            raise S3Fault(FaultCode.MALFORMED_XML)
        if not is_part_number(int(number)):
            raise part_number_fault(number)
        text = each.value(algorithm.element) if algorithm is not None else None
        checksum = parse_value(algorithm, text) if algorithm is not None and text else None
        if text and checksum is None:
            raise S3Fault(FaultCode.INVALID_REQUEST, f"The value of {algorithm} for part {number} is not valid")
        listed.append(ListedPart(int(number), etag, checksum))
    return tuple(listed)


def part_number_fault(value: str) -> S3Fault:
    """Return the fault for a part number that no part can have."""
    return invalid_argument(
        "partNumber", value, f"Part number must be an integer between 1 and {MOST_PARTS}, inclusive"
    )


def parse_location(body: bytes) -> str | None:
    """Read the body of CreateBucket: the region asked for; None without one. Raises S3Fault (MalformedXML)."""
    if not body.strip(_BLANKS):
        return None
    return parse_xml(body, "CreateBucketConfiguration").value("LocationConstraint") or None


def parse_tagging(body: bytes, most: int) -> Tags:
    """Read the tags of an object or bucket, at most `most`. Raises S3Fault: MalformedXML, InvalidTag."""
    tag_set = parse_xml(body, "Tagging").child("TagSet")
    if tag_set is None:
        raise S3Fault(FaultCode.MALFORMED_XML)
    tags = []
    for each in tag_set.all("Tag"):
        key, value = each.child("Key"), each.child("Value")
        if key is None or value is None:
            raise S3Fault(FaultCode.MALFORMED_XML)
        tags.append((key.text, value.text))
    check_tags(tags, most)
    return tuple(tags)
