"""GetObjectAttributes: which attributes are asked for, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from tawara.wire.s3.faults import invalid_argument
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.results import AnsweredChecksum
from tawara.wire.s3.xml_out import Value, render

FIELD: Final = "x-amz-object-attributes"


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


def render_attributes(
    asked: frozenset[Attribute],
    *,
    etag: str,
    length: int,
    storage_class: str,
    checksum: AnsweredChecksum | None = None,
    parts: int = 0,
    listed_parts: Sequence[tuple[int, int, AnsweredChecksum]] = (),
) -> bytes:
    """Render the answer; the entity tag has no quotes here.

    `parts`: number of parts of a joined object, 0 for one that was stored whole. `listed_parts`: number, length and
    checksum of each, known for composite checksums.
    """
    content: list[tuple[str, Value]] = []
    if Attribute.ETAG in asked:
        content.append(("ETag", etag))
    if Attribute.CHECKSUM in asked and checksum is not None:
        content.append(("Checksum", checksum.elements()))
    if Attribute.PARTS in asked and parts:
        of_parts: list[tuple[str, Value]] = [
            ("Part", [("PartNumber", number), ("Size", size), (value.algorithm.element, value.text)])
            for number, size, value in listed_parts
        ]
        content.append(("ObjectParts", [("PartsCount", parts), *of_parts]))
    if Attribute.CLASS in asked:
        content.append(("StorageClass", storage_class))
    if Attribute.SIZE in asked:
        content.append(("ObjectSize", length))
    return render("GetObjectAttributesResponse", content)
