"""Log events: stable names and fields, so that filters and alerts can rely on them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "tawara"
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
EVENT = re.compile(r"[a-z]+(_[a-z0-9]+)*")
INSTEAD = {
    "device": "devid, an integer",
    "dev": "devid",
    "hostid": "host, its name",
    "hostname": "host",
    "file": "fid, or path",
    "file_id": "fid",
    "error": "reason, or exc_info for a traceback",
    "exception": "reason, or exc_info for a traceback",
    "message": "reason",
    "code": "exit_code or status",
    "id": "the name of what it identifies",
    "dmid": "domain, its name",
}
"""Field -> the field to use."""


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the fault of each use of a logger in a module that breaks a rule."""
    tree = ast.parse(text)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_log(node.value) and node.attr in LEVELS and id(node) not in called:
            yield node.lineno, "a method under another name is not checked: use log.log(level, event, ...)"
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_log(node.func.value)):
            continue
        level, arguments = node.func.attr, node.args
        if level == "log":
            arguments = arguments[1:]
        elif level not in LEVELS:
            yield node.lineno, f"log.{level} is not one of {sorted(LEVELS)}"
        event = arguments[0] if len(arguments) == 1 else None
        if not (isinstance(event, ast.Constant) and EVENT.fullmatch(str(event.value))):
            yield node.lineno, "the event is not one constant in snake_case"
        for field in (keyword.arg for keyword in node.keywords):
            if field is None or field in INSTEAD:
                yield node.lineno, f"field {field}: use {INSTEAD.get(str(field), 'named fields')}"


def is_log(node: ast.expr) -> bool:
    """Whether an expression is a structlog logger: the name `log`, or the result of `get_logger`."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) and node.func.attr == "get_logger"
    return isinstance(node, ast.Name) and node.id == "log"


MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if "import structlog" in path.read_text()]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_events_and_fields_are_stable(module: Path) -> None:
    """Each log call has a constant event in snake_case, and fields by their standard names."""
    assert [f"{module.name}:{line}: {fault}" for line, fault in faults(module.read_text())] == []


def test_loggers_are_called_log() -> None:
    """A module's logger is `log`, by which the rules find its calls."""
    named = re.compile(r"^(\w+) = structlog\.get_logger\(__name__\)$", re.MULTILINE)
    names = {name for module in MODULES for name in named.findall(module.read_text())}
    assert names == {"log"}


@pytest.mark.parametrize(
    "call",
    [
        'log.info("Device lost", devid=3)',
        'log.info(f"worker_{name}")',
        'log.info("device_lost", device="dev3")',
        'log.info("device_lost", hostid=1)',
        'log.warning("copy_failed", error=str(error))',
        'log.warning("copy_failed", **fields)',
        'log.info("device %s", 3)',
        "write = log.warning if bad else log.info",
        'structlog.get_logger(__name__).info("Device lost")',
    ],
)
def test_other_calls_are_refused(call: str) -> None:
    """A sentence or a computed event, an unstable field and a renamed method are faults."""
    assert list(faults(call))


def test_a_stable_call_is_accepted() -> None:
    """An event in snake_case with standard fields is no fault."""
    assert list(faults('log.info("device_lost", devid=3, host="a", fid=1, domain="d", key="k", reason="r")')) == []
