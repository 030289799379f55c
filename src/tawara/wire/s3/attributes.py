"""GetObjectAttributes: which attributes are asked for, and the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tawara.model.multipart import ObjectPart
from tawara.wire.s3.faults import invalid_argument
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.results import AnsweredChecksum
from tawara.wire.s3.xml_out import Value, render

FIELD: Final = "x-amz-object-attributes"


@dataclass(frozen=True, slots=True)
class PartPage:
    """Which parts are listed."""

    after: int
    """The number that they follow."""
    most: int


FIRST_PAGE: Final = PartPage(0, 1000)
_NUMBER: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


class Attribute(StrEnum):
    """An attribute that can be asked for."""

    ETAG = "ETag"
    CHECKSUM = "Checksum"
    PARTS = "ObjectParts"
    CLASS = "StorageClass"
    SIZE = "ObjectSize"


def parse_attributes(fields: HeaderFields) -> frozenset[Attribute]:
    """Read the attributes asked for. Raises S3Fault (InvalidArgument) if there are none or an unknown one."""
    text = fields.get(FIELD) or ""
    try:
        found = frozenset(Attribute(each.strip()) for each in text.split(",") if each.strip())
    except ValueError:
        raise invalid_argument(FIELD, text, "Invalid attribute name specified.") from None
    if not found:
        raise invalid_argument(FIELD, text, "The header x-amz-object-attributes is required.")
    return found


def parse_part_page(fields: HeaderFields) -> PartPage:
    """Read which parts are to be listed. Raises S3Fault (InvalidArgument)."""
    numbers = []
    for name, default in (("x-amz-part-number-marker", FIRST_PAGE.after), ("x-amz-max-parts", FIRST_PAGE.most)):
        text = fields.get(name)
        if text is not None and _NUMBER.fullmatch(text) is None:
            raise invalid_argument(name, text, f"Provided {name} not an integer or within integer range")
        numbers.append(default if text is None else int(text))
    return PartPage(numbers[0], min(numbers[1], FIRST_PAGE.most))


def render_attributes(
    asked: frozenset[Attribute],
    *,
    etag: str,
    length: int,
    storage_class: str,
    checksum: AnsweredChecksum | None = None,
    parts: Sequence[ObjectPart] = (),
    page: PartPage = FIRST_PAGE,
) -> bytes:
    """Render the answer; the entity tag has no quotes here.

    `parts`: those of an object that was uploaded in parts. They are listed if they have checksums, a `page` of them.
    """
    content: list[tuple[str, Value]] = []
    if Attribute.ETAG in asked:
        content.append(("ETag", etag))
    if Attribute.CHECKSUM in asked and checksum is not None:
        content.append(("Checksum", checksum.elements()))
    if Attribute.PARTS in asked and parts:
        content.append(("ObjectParts", [("PartsCount", len(parts)), *_listed(parts, page, checksum)]))
    if Attribute.CLASS in asked:
        content.append(("StorageClass", storage_class))
    if Attribute.SIZE in asked:
        content.append(("ObjectSize", length))
    return render("GetObjectAttributesResponse", content)


def _listed(parts: Sequence[ObjectPart], page: PartPage, checksum: AnsweredChecksum | None) -> list[tuple[str, Value]]:
    if checksum is None or any(each.checksum is None for each in parts):
        return []
    following = [each for each in parts if each.number > page.after]
    listed = following[: page.most]
    return [
        ("PartNumberMarker", page.after),
        ("NextPartNumberMarker", listed[-1].number if listed else 0),
        ("MaxParts", page.most),
        ("IsTruncated", len(following) > len(listed)),
        *(
            (
                "Part",
                [
                    ("PartNumber", each.number),
                    ("Size", each.length),
                    (checksum.algorithm.element, each.checksum),
                ],
            )
            for each in listed
        ),
    ]
