"""The log of daemons: whole lines, and a failing log never affects the program."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tawara.cli import log
from tawara.cli.configuration import LogSection
from tawara.cli.log import Writer


@pytest.fixture
def descriptor() -> Iterator[int]:
    """A descriptor that cannot be written to, and that a test can replace by another file."""
    opened = os.open("/dev/full", os.O_WRONLY)
    yield opened
    os.close(opened)


def _turn(descriptor: int, into: int) -> None:
    os.dup2(into, descriptor)
    os.close(into)


def test_lines_that_cannot_be_written_are_counted(descriptor: int, tmp_path: Path) -> None:
    """On a full disk or without a reader, lines are lost without an error; the next written line has their number."""
    writer = Writer(descriptor, as_json=True)
    writer.write("one")
    reading, writing = os.pipe()
    os.close(reading)
    _turn(descriptor, writing)
    writer.write("two")
    _turn(descriptor, os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
    writer.write('{"event": "three"}')
    writer.write('{"event": "four"}')
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["event"], line.get("lines")) for line in lines] == [(log.LOST, 2), ("three", None), ("four", None)]


def test_a_partly_written_line_is_ended(descriptor: int, tmp_path: Path) -> None:
    """When a pipe takes only a part of a line, the next line begins on a line of its own."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    _turn(descriptor, writing)
    writer = Writer(descriptor, as_json=False)
    writer.write("x" * 1_000_000)
    with open(reading, "rb", buffering=0) as pipe:
        while pipe.read(65536):
            pass
        writer.write("next")
        assert pipe.read(100) == b"\n[warning] log_lines_lost lines=1\nnext\n"


def test_a_blocked_reader_does_not_block_the_program(descriptor: int) -> None:
    """While the pipe is not read, lines are lost instead of waited for; afterwards logging continues."""
    reading, writing = os.pipe()
    _turn(descriptor, writing)
    writer = Writer(descriptor, as_json=False)
    for number in range(2000):
        writer.write(f"{number} " + "x" * 100)
    with open(reading, "rb", buffering=0) as pipe:
        said = b""
        while b" 1999 " not in said and not said.endswith(b"last\n"):
            said += pipe.read(65536)
            writer.write("last")
    assert b"log_lines_lost lines=" in said


def test_a_value_that_cannot_be_rendered(descriptor: int, tmp_path: Path) -> None:
    """A value whose rendering raises, or a wrong format of a library, costs only its fields."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    _turn(descriptor, os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
    before, handlers = structlog.get_config(), logging.root.handlers[:]
    try:
        log.configure(LogSection(format="text"))
        writer = Writer(descriptor, as_json=False)
        structlog.configure(logger_factory=lambda *_: log._Logger(writer), cache_logger_on_first_use=False)
        structlog.get_logger().warning("happened", value=Broken())
        structlog.get_logger().warning("went_on")
        record = logging.LogRecord("library", logging.WARNING, "", 0, "%d of %d", (1,), None)
        log._Handler(writer).emit(record)
    finally:
        structlog.configure(**before)
        logging.root.handlers[:] = handlers
    first, second, third = (tmp_path / "log").read_text().splitlines()
    assert "log_event_not_rendered of='happened'" in first
    assert "went_on" in second
    assert third == "WARNING library '%d of %d'"
