"""The steps from one version of Tawara's own tables to the next, as frozen text: `0006.sql` leads from 5 to 6.

A file is never changed once it has been released, for databases were made by it. It has the summary for the operator
in its first lines, then sections of statements: `-- forwards: sqlite` and so on for each dialect, `-- backwards` for
all of them or `-- backwards: mysql` for one. `bin/freeze-migration TABLE...` writes the file for new tables of
`schema`; a change of an existing table is written by hand, in the file and in `schema`. Where DDL commits by itself
(MariaDB, MySQL) a step that was cut off is taken again from its start, so every statement must bear to be repeated
(`IF NOT EXISTS`, `IF EXISTS`; `ALTER TABLE x ADD COLUMN y` and `DROP COLUMN y` are left out when that is done).
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
    """From version `to - 1` to `to`, and back."""

    to: int
    summary: str
    """What it does, for the operator."""
    sections: Mapping[str, tuple[str, ...]]
    """`forwards: sqlite` and so on -> statements in their order."""
    empty_before_backwards: tuple[str, ...] = ()
    """Tables whose rows nothing else could mean: going back is refused while there are any."""

    def forwards(self, dialect: str) -> tuple[str, ...]:
        """The statements of the step, for the dialect of that name."""
        return self.sections[f"forwards: {dialect}"]

    def backwards(self, dialect: str) -> tuple[str, ...]:
        """The statements that undo it."""
        own = self.sections.get(f"backwards: {dialect}")
        return own if own is not None else self.sections["backwards"]


def parse(to: int, text: str) -> MigrationStep:
    """The step in a file's text. Raises ValueError for text before the first section that is no comment."""
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
    """All steps, the first one first."""
    files = {each.name: each for each in resources.files(__name__).iterdir() if each.name.endswith(".sql")}
    return tuple(parse(int(name[:4]), files[name].read_text()) for name in sorted(files))
