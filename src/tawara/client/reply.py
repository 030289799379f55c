"""The words of a tracker's reply: text, numbers, and what it has several of (docs/mogilefs.md 3 and 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Reply: TypeAlias = Mapping[str, bytes]


class Row:
    """The words of a reply whose names begin with a `prefix`."""

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
    """As many as the word `count` says; `prefix` has `{}` for the number. Raises KeyError, ValueError."""
    return [Row(reply, prefix.format(number)) for number in numbered(reply, count)]


def numbered(reply: Reply, count: str) -> range:
    """The numbers from 1 to what the word `count` says. Raises KeyError, ValueError."""
    return range(1, int(reply[count]) + 1)


def text_of(reply: Reply, name: str) -> str:
    """A word as text, empty if it is not there; bytes that are not UTF-8 become lone surrogates."""
    return reply.get(name, b"").decode("utf-8", "surrogateescape")


def number_of(reply: Reply, name: str) -> int | None:
    """A word as a number; None if it is not there, or none."""
    word = reply.get(name, b"")
    return int(word) if word.isdigit() else None
