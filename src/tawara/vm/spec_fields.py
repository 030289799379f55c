"""Typed access to a TOML table that records every mistake with its line and continues with a default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, TypeVar

from tawara.vm.errors import Mistake
from tawara.vm.toml_lines import Path, Places, index_places, place_of

Word = TypeVar("Word", bound=str)
_SIZE = re.compile(r"(\d+)\s*([KMGT]?)(i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def read_size(text: str) -> int | None:
    """Return the bytes of "256M" or "5G"; None if it is no size."""
    match = _SIZE.fullmatch(text.strip())
    return int(match[1]) << _UNITS[match[2].upper()] if match else None


def show_size(size: int) -> str:
    """Return a size in the largest unit that divides it: the inverse of read_size."""
    for unit in ("T", "G", "M", "K"):
        if size and size % (1 << _UNITS[unit]) == 0:
            return f"{size >> _UNITS[unit]}{unit}"
    return str(size)


class Fields:
    """One table of the document. Keys that are read count as known; `nothing_else` reports the rest."""

    def __init__(
        self, values: dict[str, Any], path: Path, places: Places, mistakes: list[Mistake], folder: FilePath
    ) -> None:
        self.values = values
        self.path = path
        self.places = places
        self.mistakes = mistakes
        self.folder = folder
        self._known: set[str] = set()

    @classmethod
    def of_text(
        cls, text: str, document: dict[str, Any], mistakes: list[Mistake], folder: FilePath | None = None
    ) -> Fields:
        """Return the document's top table; file contents are relative to the directory."""
        return cls(document, (), index_places(text), mistakes, folder or FilePath())

    def has(self, key: str) -> bool:
        """Whether the author wrote this key, which counts as known afterwards."""
        self._known.add(key)
        return key in self.values

    def mistake(self, key: str, what: str, remedy: str, index: int | None = None) -> None:
        """Record a mistake at the key, in a list at this index of it (or at the table itself if the key is empty)."""
        path = (*self.path, key) if key else self.path
        line, path = place_of(self.places, path if index is None else (*path, index))
        where = ".".join(f"[{part}]" if isinstance(part, int) else part for part in path).replace(".[", "[") or "file"
        self.mistakes.append(Mistake(line, where, what, remedy))

    def text(self, key: str, default: str, pattern: re.Pattern[str] | None, form: str) -> str:
        """A string of the given form."""
        value = self._value(key, default)
        if not isinstance(value, str):
            self.mistake(key, f"{value!r} is not a string", "Put it in quotes.")
            return default
        if pattern is not None and not pattern.fullmatch(value):
            self.mistake(key, f"{value!r} is not understood", f"Write {form}.")
            return default
        return value

    def texts(self, key: str, pattern: re.Pattern[str], form: str) -> tuple[str, ...]:
        """A list of strings of the given form."""
        value = self._value(key, [])
        if not isinstance(value, list):
            self.mistake(key, f"{value!r} is not a list", 'Write it like ["one", "two"].')
            return ()
        for index, each in enumerate(value):
            if not isinstance(each, str) or not pattern.fullmatch(each):
                self.mistake(key, f"{each!r} is not understood", f"Write {form}.", index)
        return tuple(each for each in value if isinstance(each, str))

    def choice(self, key: str, default: Word, choices: tuple[Word, ...]) -> Word:
        """One of a few words."""
        value = self._value(key, default)
        for word in choices:
            if value == word:
                return word
        self.mistake(key, f"{value!r} is not known", f"Use one of {', '.join(choices)}.")
        return default if default in choices else choices[0]

    def number(self, key: str, default: int, *, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.mistake(key, f"{value!r} is not possible", f"Write a whole number from {least} to {most}.")
            return default
        return value

    def size(self, key: str, default: int, *, least: int) -> int:
        """A size in bytes, written "256M" or "5G"."""
        value = self._value(key, None)
        if value is None:
            return default
        size = read_size(value) if isinstance(value, str) else None
        if size is None:
            self.mistake(key, f"{value!r} is not a size", 'Write it like "256M" or "5G".')
            return default
        if size < least or size % 1024:
            self.mistake(key, f"{value!r} is not possible", f"Use at least {show_size(least)}, in whole KiB.")
            return default
        return size

    def table(self, key: str) -> Fields:
        """A nested table; empty if it was not written."""
        value = self._value(key, {})
        if not isinstance(value, dict):
            self.mistake(key, f"{value!r} is not a table", f"Write [{key}] on a line of its own.")
            value = {}
        return self._inside(value, key)

    def tables(self, key: str) -> list[Fields]:
        """A list of tables, written [[key]]."""
        value = self._value(key, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            self.mistake(key, "this is not a list of tables", f"Write [[{key}]], with two brackets, once for each.")
            return []
        return [self._inside(each, key, index) for index, each in enumerate(value)]

    def named_tables(self, key: str) -> Iterator[tuple[str, Fields]]:
        """Tables written [key.NAME]."""
        parent = self.table(key)
        for name in parent.values:
            yield name, parent.table(name)

    def content(self) -> list[tuple[str, bytes, int]]:
        """Return the content of a [[file]] as (path below, bytes, mode or 0): its `content`, or that of its
        `source`."""
        content, source = self._value("content", None), self._value("source", None)
        if isinstance(content, str) and source is None:
            return [("", content.encode(), 0)]
        if isinstance(source, str) and content is None:
            try:
                return _read_files(self.folder / source)
            except OSError as error:
                self.mistake("source", f"{source}: {error.strerror}", "Paths are relative to the description's folder.")
                return []
        self.mistake("", "a file has either content or source", 'Write content = "…" or source = "a/path".')
        return []

    def nothing_else(self) -> None:
        """Report every key that was not read."""
        for key in self.values:
            if key not in self._known:
                known = ", ".join(sorted(self._known))
                self.mistake(key, "there is no such setting", f"Known here: {known}.")

    def _value(self, key: str, default: Any) -> Any:
        self._known.add(key)
        return self.values.get(key, default)

    def _inside(self, values: dict[str, Any], *steps: str | int) -> Fields:
        return Fields(values, (*self.path, *steps), self.places, self.mistakes, self.folder)


def _read_files(source: FilePath) -> list[tuple[str, bytes, int]]:
    if not source.is_dir():
        return [("", source.read_bytes(), 0)]
    paths = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return [(f"/{path.relative_to(source)}", path.read_bytes(), path.stat().st_mode & 0o755) for path in paths]
