"""The steps from one version of Tawara's own tables to the next, as frozen text: `0006.sql` leads from 5 to 6.

A file is never changed after its release, because databases were created by it. Its first lines are the summary for the
operator. Sections of statements follow: `-- forwards: sqlite` and so on for each dialect, `-- backwards` for all
dialects or `-- backwards: mysql` for one. `bin/freeze-migration TABLE...` writes the file for new tables of `schema`; a
change of an existing table is added manually, to the file and to `schema`. Where DDL commits implicitly (MariaDB and
MySQL), an interrupted step is run again from its start, so every statement must be repeatable (`IF NOT EXISTS`, `IF
EXISTS`; `ALTER TABLE x ADD COLUMN y` and `DROP COLUMN y` are skipped if already done).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_SECTION: Final = re.compile(r"^-- (forwards|backwards)(?:: (\w+))?$")
_EMPTY: Final = "-- empty before backwards: "


@dataclass(frozen=True, slots=True)
class MigrationStep:
    """The migration from version `to - 1` to `to`, and back."""

    to: int
    summary: str
    """Description for the operator."""
    sections: Mapping[str, tuple[str, ...]]
    """Name of a section, such as `forwards: sqlite` -> its statements in order."""
    empty_before_backwards: tuple[str, ...] = ()
    """Tables whose rows the older version cannot represent: going back is refused unless they are empty."""

    def forwards(self, dialect: str) -> tuple[str, ...]:
        """Return the statements of the step for a dialect, given by name."""
        return self.sections[f"forwards: {dialect}"]

    def backwards(self, dialect: str) -> tuple[str, ...]:
        """Return the statements that undo the step, for a dialect given by name."""
        own = self.sections.get(f"backwards: {dialect}")
        return own if own is not None else self.sections["backwards"]


def parse(to: int, text: str) -> MigrationStep:
    """Parse a file's text. Raises ValueError for text before the first section that is not a comment."""
    summary: list[str] = []
    empty: list[str] = []
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if match := _SECTION.fullmatch(line):
            current = sections.setdefault(": ".join(filter(None, match.groups())), [])
        elif current is not None:
            current.append(line)
        elif line.startswith(_EMPTY):
            empty += line.removeprefix(_EMPTY).split(", ")
        elif line.startswith("-- "):
            summary.append(line.removeprefix("-- "))
        elif line:
            raise ValueError(f"step {to}: {line!r} stands in no section")
    statements = {name: _statements("\n".join([*lines, ""])) for name, lines in sections.items()}
    return MigrationStep(to, " ".join(summary), statements, tuple(empty))


def _statements(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(";\n") if each.strip())


@cache
def steps() -> tuple[MigrationStep, ...]:
    """Return all steps in ascending order."""
    files = {each.name: each for each in resources.files(__name__).iterdir() if each.name.endswith(".sql")}
    return tuple(parse(int(name[:4]), files[name].read_text()) for name in sorted(files))
