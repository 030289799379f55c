"""Reads the fields of a tracker's reply: text, numbers and numbered rows (docs/mogilefs.md 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Reply: TypeAlias = Mapping[str, bytes]


class Row:
    """The fields of a reply whose names begin with `prefix`."""

    def __init__(self, reply: Reply, prefix: str) -> None:
        self._reply = reply
        self._prefix = prefix

    def text(self, name: str) -> str:
        """See `text_of`."""
        return text_of(self._reply, self._prefix + name)

    def number(self, name: str) -> int | None:
        """See `number_of`."""
        return number_of(self._reply, self._prefix + name)

    def __getitem__(self, name: str) -> bytes:
        return self._reply[self._prefix + name]


def rows_of(reply: Reply, count: str, prefix: str) -> list[Row]:
    """Return as many rows as the field `count` says; `prefix` has `{}` for the number. Raises KeyError, ValueError."""
    return [Row(reply, prefix.format(number)) for number in numbered(reply, count)]


def numbered(reply: Reply, count: str) -> range:
    """Return the numbers from 1 to the value of the field `count`. Raises KeyError, ValueError."""
    return range(1, int(reply[count]) + 1)


def text_of(reply: Reply, name: str) -> str:
    """Return a field as text, empty if missing; bytes that are not UTF-8 become lone surrogates."""
    return reply.get(name, b"").decode("utf-8", "surrogateescape")


def number_of(reply: Reply, name: str) -> int | None:
    """Return a field as a number; None if it is missing or not a number."""
    word = reply.get(name, b"")
    return int(word) if word.isdigit() else None
