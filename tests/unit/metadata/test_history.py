"""The frozen migration steps as files."""

from __future__ import annotations

import pytest

from tawara.metadata import history, schema_version
from tawara.metadata.creation import check_own_version
from tawara.model.errors import ConfigurationError


def test_every_step_is_complete() -> None:
    """The steps lead from version 1 to the program's version, each for every dialect, with a description."""
    steps = history.steps()
    assert [step.to for step in steps] == list(range(1, schema_version.TAWARA + 1))
    for step in steps:
        assert step.summary.startswith(("adds ", "replaces ", "changes ")), step.summary
        for dialect in ("sqlite", "postgresql", "mysql"):
            assert step.forwards(dialect)
            assert step.backwards(dialect)


def test_a_step_as_text() -> None:
    """Sections contain statements; those for a dialect precede those for all."""
    step = history.parse(
        3,
        "-- adds a thing\n-- for a reason\n-- empty before backwards: a, b\n-- forwards: sqlite\nA (\n\tx\n);\nB;\n"
        "-- backwards: mysql\nM;\n-- backwards\nC;\n",
    )
    assert (step.to, step.summary, step.empty_before_backwards) == (3, "adds a thing for a reason", ("a", "b"))
    assert step.forwards("sqlite") == ("A (\n\tx\n)", "B")
    assert (step.backwards("mysql"), step.backwards("sqlite")) == (("M",), ("C",))
    with pytest.raises(ValueError, match="in no section"):
        history.parse(1, "CREATE TABLE x")


@pytest.mark.parametrize(
    ("version", "message", "hint"),
    [
        (None, "one of MogileFS", "tawara adopt"),
        ("1", "version 1", "tawara upgrade"),
        (str(schema_version.TAWARA + 1), "up to", "newer Tawara"),
        ("odd", "version odd", "newer Tawara"),
    ],
)
def test_a_database_of_another_version(version: str | None, message: str, hint: str) -> None:
    """The error names both versions, and the command or program that is needed."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        check_own_version(version)
    assert hint in (caught.value.hint or "")
    check_own_version(str(schema_version.TAWARA))
