"""The standard streams of the process: always open, UTF-8, and diagnostics that never raise.

Python leaves `sys.stdout` and `sys.stderr` None when their descriptors are closed, and the next file or socket that is
opened takes the descriptor. Standard error may be full, or closed by its reader. Neither may stop a program.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Final, TextIO

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
_WHEN_CLOSED: Final = {STDIN: os.O_WRONLY, STDOUT: os.O_RDONLY, STDERR: os.O_WRONLY}
"""Mode of /dev/null in place of a closed descriptor: using a closed stream remains an error (EBADF)."""


def prepare() -> None:
    """Open the streams that are closed, set their encoding, and make standard error safe to write to."""
    _open_closed()
    if sys.stdin is None:
        sys.stdin = open(STDIN, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(STDOUT, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is sys.__stderr__:
        sys.stderr = _diagnostics()
    for stream in (sys.stdout, sys.stderr):
        _use_utf8(stream)


def _open_closed() -> None:
    for descriptor, flags in _WHEN_CLOSED.items():
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)  # open() takes the lowest free number: this one


def _use_utf8(stream: TextIO) -> None:
    """Use UTF-8 whatever the locale is; keys and file names that are not UTF-8 are written as their bytes."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(encoding="utf-8", errors="surrogateescape")


class _Lossy(io.FileIO):
    """A file that drops data that cannot be written (no space, no reader, or it would block)."""

    def write(self, data: object, /) -> int:
        """Write `data`, or drop it."""
        length = len(memoryview(data))  # type: ignore[arg-type] # a buffer, as for FileIO.write
        try:
            written = super().write(data)  # type: ignore[arg-type]
        except OSError:
            return length
        return length if written is None else written


def _diagnostics() -> TextIO:
    raw = _Lossy(STDERR, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", line_buffering=True)


def flush_output() -> bool:
    """Flush standard output; return False if that fails, and drop the buffered data.

    Otherwise the interpreter would flush again at exit, and change the exit code to 120.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
        return False
    return True


def announce(text: str) -> OSError | None:
    """Write a daemon's line to standard output; return the error if that fails, since a daemon continues without it."""
    data = f"{text}\n".encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(STDOUT, data) :]
    except OSError as error:
        return error
    return None
