"""The log of daemons on standard error: one event a line, as text or as JSON. Logging never raises.

A line that cannot be written (no space left, the reader has exited or hangs) is dropped and counted; the next line that
can be written is preceded by the count.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
from typing import Any, Final

import structlog

from tawara.cli.configuration import LogSection
from tawara.cli.streams import STDERR

_TIMEOUT: Final = 200
"""Milliseconds for which a line waits for its reader; after a lost line, the next ones do not wait."""
LOST: Final = "log_lines_lost"
"""Event with the number of lines that could not be written."""


class Writer:
    """Writes whole lines to a descriptor. Used by all threads of a process."""

    def __init__(self, descriptor: int, *, as_json: bool) -> None:
        self._descriptor = descriptor
        self._as_json = as_json
        self._lock = threading.Lock()
        self._lost = 0
        self._cut = False
        """Whether the last line was written in part."""

    def write(self, line: str) -> None:
        """Write `line`, or count it as lost. Raises nothing."""
        with self._lock:
            text = f"{self._account()}{line}\n" if self._lost else f"{line}\n"
            if self._written(("\n" if self._cut else "") + text):
                self._lost = 0
            else:
                self._lost += 1

    def _written(self, text: str) -> bool:
        data = text.encode("utf-8", "backslashreplace")
        whole = len(data)
        try:
            while data:
                self._wait()
                data = data[os.write(self._descriptor, data[: select.PIPE_BUF]) :]
        except OSError:
            self._cut = self._cut or len(data) < whole
            return False
        self._cut = False
        return True

    def _wait(self) -> None:
        """Wait briefly for a full pipe or terminal; a hanging reader must not block the program.

        A descriptor that is reported as writable accepts PIPE_BUF bytes without blocking. Raises TimeoutError.
        """
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        if not poll.poll(0 if self._lost else _TIMEOUT):
            raise TimeoutError

    def _account(self) -> str:
        if self._as_json:
            return json.dumps({"event": LOST, "level": "warning", "lines": self._lost}) + "\n"
        return f"[warning] {LOST} lines={self._lost}\n"


class _Logger:
    """Receives rendered events from structlog."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def msg(self, message: str) -> None:
        self.writer.write(message)

    debug = info = warning = error = critical = exception = msg


class _Handler(logging.Handler):
    """Writes the log records of libraries through the same writer."""

    def __init__(self, writer: Writer) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception:  # a library's arguments that cannot be formatted
            self._writer.write(f"{record.levelname} {record.name} {record.msg!r}")


def configure(log: LogSection) -> None:
    """Set up structlog and logging for this process. Colour is for terminals only."""
    as_json = log.format == "json"
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=as_json),
    ]
    if as_json:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        colors, plain = sys.stderr.isatty(), structlog.dev.plain_traceback
        processors.append(structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain))
    set_level(log.level)
    writer = Writer(STDERR, as_json=as_json)
    structlog.configure(
        processors=processors,
        wrapper_class=_guarded(),
        logger_factory=lambda *_: _Logger(writer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Handler(writer)], force=True)


_threshold = logging.INFO
"""The lowest level that is logged. Kept outside of the logger class, since loggers are cached."""


def set_level(level: str) -> None:
    """Log events of `level` and above from now on, in all loggers."""
    global _threshold
    _threshold = logging.getLevelNamesMapping()[level.upper()]


def _guarded() -> type[Any]:
    """Return structlog's logger for the current level, whose methods do not raise if a value cannot be rendered."""
    filtering: type[Any] = structlog.make_filtering_bound_logger(logging.DEBUG)
    levels = logging.getLevelNamesMapping()

    def render(self: Any, method_name: str, event: str | None = None, *args: Any, **fields: Any) -> Any:
        if levels.get(method_name.upper(), logging.ERROR) < _threshold:
            return None
        try:
            return filtering._proxy_to_logger(self, method_name, event, *args, **fields)
        except Exception as error:
            return self._logger.msg(f"[error] log_event_not_rendered of={event!r} error={type(error).__name__}")

    return type("GuardedLogger", (filtering,), {"_proxy_to_logger": render})


def configure_command() -> None:
    """Set up the log of a command: warnings of the components that it uses, on standard error."""
    if not structlog.is_configured():
        configure(LogSection(level="warning"))
