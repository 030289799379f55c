"""Renders XML answers from nested pairs of names and values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeAlias

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"
DECLARATION: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'

Value: TypeAlias = "str | int | bool | Sequence[tuple[str, Value]] | None"
"""The content of an element: text, a number, true or false, or elements. An element whose value is None is left out."""

_SPECIAL: Final = re.compile(r"[&<>\"\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


def render(root: str, content: Sequence[tuple[str, Value]], *, namespace: str | None = NAMESPACE) -> bytes:
    """Render a document with the root element `root`."""
    parts: list[str] = []
    _append(parts, content)
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f"{DECLARATION}<{root}{attribute}>{''.join(parts)}</{root}>".encode()


def escape(text: str) -> str:
    """Escape text for an element.

    A control character becomes a character reference. XML 1.0 forbids some of these, but AWS answers so, too, and any
    substitute would be another key; clients that need such keys ask for `encoding-type=url`. Bytes that are not UTF-8
    (surrogates here) have no form in XML at all and become U+FFFD.
    """
    return _SPECIAL.sub(_reference, text) if _SPECIAL.search(text) else text


def _reference(match: re.Match[str]) -> str:
    character = match[0]
    if character in _NAMED:
        return _NAMED[character]
    return "\ufffd" if character >= "\ud800" else f"&#x{ord(character):X};"


@lru_cache(4096)
def timestamp(seconds: int) -> str:
    """Format unix seconds as in XML answers: `2026-12-01T10:00:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def quoted(etag: str) -> str:
    """The entity tag with quotes, as in answers."""
    return f'"{etag}"'


def _append(parts: list[str], content: Sequence[tuple[str, Value]]) -> None:
    for name, value in content:
        if value is None:
            continue
        if isinstance(value, bool):
            parts.append(f"<{name}>{'true' if value else 'false'}</{name}>")
        elif isinstance(value, int):
            parts.append(f"<{name}>{value}</{name}>")
        elif isinstance(value, str):
            parts.append(f"<{name}>{escape(value)}</{name}>")
        else:
            parts.append(f"<{name}>")
            _append(parts, value)
            parts.append(f"</{name}>")
