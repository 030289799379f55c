"""Line numbers of each table and key in a TOML text, which tomllib does not give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """The place of a setting: its line, and its path there (merged settings have another one)."""

    line: int
    path: Path


Places = Mapping[Path, Place]

_TABLE = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def index_places(text: str) -> dict[Path, Place]:
    """Map each table's and key's path to its place; lines are counted from 1. The text must be valid TOML."""
    lines: dict[Path, int] = {(): 1}
    counts: dict[Path, int] = {}
    table: Path = ()
    fence: str | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if fence is not None:
            fence = None if line.count(fence) % 2 else fence
            continue
        if header := _TABLE.match(line):
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                lines.setdefault(table, number)
                table = (*table, counts[table])
            lines[table] = number
        elif key := _KEY.match(line):
            lines.setdefault((*table, *_parts(key[1])), number)
        fence = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), None)
    return {path: Place(number, path) for path, number in lines.items()}


def place_of(places: Places, path: Path) -> Place:
    """Return the place of a path; without a line of its own, the line of the nearest table around it."""
    known = path
    while known not in places:
        known = known[:-1]
    line, written = places[known]
    return Place(line, (*written, *path[len(known) :]))


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
