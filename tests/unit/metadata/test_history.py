"""The frozen migration steps as files."""

from __future__ import annotations

import pytest

from tawara.metadata import history, schema, schema_version
from tawara.metadata.creation import check_own_version
from tawara.model.errors import ConfigurationError

NUMBERED = {"fsck_log", "tawara_note", "tawara_placement_change", "tawara_scrub_log", "tempfile"}
"""Tables whose rows the database numbers."""


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


@pytest.mark.parametrize(
    ("dialect", "word"), [("sqlite", "AUTOINCREMENT"), ("postgresql", "SERIAL"), ("mysql", "AUTO_INCREMENT")]
)
def test_numbers_that_the_database_assigns(dialect: str, word: str) -> None:
    """Only these tables number their rows themselves, and on SQLite no number is used again."""
    numbered = {each.split()[5].strip('"') for each in schema.statements(dialect) if word in each}
    assert numbered == NUMBERED
