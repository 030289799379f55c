"""Tags of objects and buckets: their limits, and the header field that carries them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from tawara.wire.s3.faults import FaultCode, S3Fault, invalid_argument
from tawara.wire.s3.head import HeaderFields

FIELD: Final = "x-amz-tagging"
MOST_OBJECT_TAGS: Final = 10
MOST_BUCKET_TAGS: Final = 50
LONGEST_KEY: Final = 128
"""Characters of a tag's key."""
LONGEST_VALUE: Final = 256
"""Characters of a tag's value."""
_ALLOWED: Final = frozenset("+-=._:/@")
"""Characters that are allowed besides letters, digits and blanks."""

Tags = tuple[tuple[str, str], ...]


def check_tags(tags: Sequence[tuple[str, str]], most: int) -> None:
    """Raise S3Fault (InvalidTag) for too many tags, several of one key, or a key or value that is not allowed."""
    if len(tags) > most:
        raise S3Fault(FaultCode.INVALID_TAG, f"There are more than {most} tags")
    if len({key for key, _ in tags}) < len(tags):
        raise S3Fault(FaultCode.INVALID_TAG, "Cannot provide multiple Tags with the same key")
    for key, value in tags:
        if not 1 <= len(key) <= LONGEST_KEY or key.startswith("aws:") or not _is_allowed(key):
            raise S3Fault(FaultCode.INVALID_TAG, "The TagKey you have provided is invalid", [("TagKey", key[:256])])
        if len(value) > LONGEST_VALUE or not _is_allowed(value):
            raise S3Fault(FaultCode.INVALID_TAG, "The TagValue you have provided is invalid", [("TagKey", key)])


def _is_allowed(text: str) -> bool:
    return all(each in _ALLOWED or unicodedata.category(each)[0] in "LNZ" for each in text)


def parse_tag_field(fields: HeaderFields) -> Tags:
    """Read the tags that a PUT gives an object: `KEY=VALUE&KEY=VALUE`, percent-encoded.

    Raises S3Fault: InvalidArgument if it cannot be parsed, InvalidTag.
    """
    text = fields.get(FIELD) or ""
    try:
        tags = tuple(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_BUCKET_TAGS))
    except ValueError:  # UnicodeDecodeError, too
        raise invalid_argument(
            FIELD, text, f"The header '{FIELD}' shall be encoded as UTF-8 then URLEncoded URL query parameters"
        ) from None
    check_tags(tags, MOST_OBJECT_TAGS)
    return tags
