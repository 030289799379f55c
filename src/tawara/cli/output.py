"""Formats results: sizes, times, keys, tables, JSON lines. Colour and escapes are used on terminals only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any


def human_size(size: float) -> str:
    """Format a number of bytes: `999 B`, `1.2 kB`, `3.4 GB` (powers of 1,000)."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} PB"


def local_time(seconds: int | None) -> str:
    """Format unix seconds as local time; `-` for None."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def printable(text: str) -> str:
    """Escape control characters and bytes that are not UTF-8, so that the text is safe on a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def shown(key: str) -> str:
    """Return a key for standard output: escaped on a terminal, otherwise unchanged."""
    return printable(key) if sys.stdout.isatty() else key


def line(text: str = "") -> None:
    """Print one line on standard output."""
    sys.stdout.write(text + "\n")


def json_line(fields: dict[str, Any]) -> None:
    """Print one JSON object on a line of standard output; keys that are not UTF-8 have lone surrogates, escaped."""
    sys.stdout.write(json.dumps(fields) + "\n")


class ChangingLine:
    """A status line on standard error, rewritten in place on a terminal; otherwise no output, or a few lines."""

    def __init__(self, *, piped: bool = False) -> None:
        """With `piped`, a line is also written without a terminal, whenever its kind changes."""
        self.shown = sys.stderr.isatty()
        self._piped = piped and not self.shown
        self._kind: object = None

    def say(self, text: str, *, kind: object = None) -> None:
        """Replace the line."""
        if self.shown:
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif self._piped and kind != self._kind:
            self._kind = kind
            note(text)

    def clear(self) -> None:
        """Clear the line on the terminal."""
        if self.shown:
            self.say("")


def note(text: str) -> None:
    """Print one line on standard error."""
    print(printable(text), file=sys.stderr)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> None:
    """Print a table with a head; the columns `right` (from 0) are aligned to the right. Cells are plain text."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Wide enough for every row: the terminal wraps long lines. The console honours NO_COLOR.
    printed = StringIO()
    console = Console(file=printed, force_terminal=sys.stdout.isatty(), width=_WIDE)
    made = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    to_the_right = set(right)
    for number, name in enumerate(head):
        made.add_column(name, justify="right" if number in to_the_right else "left", no_wrap=True)
    for row in rows:
        made.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    console.print(made)
    for text in printed.getvalue().splitlines():
        line(text.rstrip())


_WIDE = 10_000
_STYLES = {
    "alive": "green",
    "writeable": "green",
    "ok": "green",
    "failing": "red",
    "readable": "yellow",
    "readonly": "yellow",
    "drain": "yellow",
    "down": "red",
    "dead": "red",
    "unreachable": "red",
    "missing": "red",
}
"""Word for a state -> colour."""
