"""The wording of code and docs: standard terms of the field, no private metaphors, no archaic English."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

INSTEAD = {
    r"door|door-keeper": "listener, server, handler",
    r"house|furnish\w*": "code base, fixture, set up",
    r"bells?|rung": "wakeup, notify",
    r"errands?": "task",
    r"lanes?": "thread pool, batcher",
    r"journeys?|sets? out beside|company": "batch, flush",
    r"party|parties": "batch",
    r"scribe": "journal writer",
    r"charter(?!-N)": "cluster manifest",
    r"census": "placement counts",
    r"hasten\w*": "reschedule, retry",
    r"whoever|whomever|nobody(?! user|[:\"])|somebody": "the component: the worker, the client, no process",
    r"a person|persons|people": "an operator, a user",
    r"lest|nought|anew|(?<![.\"])mended|mends?|of late|as it were|such a one": "plain English",
    r"for (?:the|its|their|whose) sake|sake": "because of",
    r"what (?:became|becomes|has become) of": "the result of, the status of",
    r"(?:stands?|standing) in the way|in the way": "blocks, conflicts with",
    r"(?:is|are) told|tells of": "is notified, is reported",
    r"is there such|there is such": "exists",
    r"out of room|no room|room for|room left": "space",
    r"strays?": "orphan",
    r"announcements?": "reservation",
    r"by hand is": "manual",
}
"""Pattern -> what to write instead."""

BANNED = re.compile(rf"(?<![a-zA-Z])(?:{'|'.join(INSTEAD)})(?![a-zA-Z])", re.IGNORECASE)
EXEMPT = {"docs/mogilefs.md", "tests/unit/test_words.py", "src/tawara/model/mogilefsd_conf.py"}
"""Pages that describe another program in its own words, and this file."""

STORED = {
    "charter": {"src/tawara/wire/journal.py", "src/tawara/metadata/journals.py", "src/tawara/metadata/schema.py"},
    "hastened": {"src/tawara/metadata/deferrals.py"},
    "anew": {"src/tawara/metadata/rebuilding.py"},
}
"""Words in stored formats, with the files that translate them."""


def pages() -> list[Path]:
    """The Python files of src, tests and benchmarks, and the pages of docs."""
    code = [path for folder in ("src", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    found = [*code, *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return sorted(path for path in found if str(path.relative_to(ROOT)) not in EXEMPT)


def instead(word: str) -> str:
    """What to write instead of `word`."""
    return next(better for pattern, better in INSTEAD.items() if re.fullmatch(pattern, word, re.IGNORECASE))


@pytest.mark.parametrize("top", ["src", "tests", "benchmarks", "docs", ""])
def test_words_are_the_fields(top: str) -> None:
    """No page uses a private metaphor or an archaic word where the field has a term."""
    found = [
        f"{name}:{number}: {match[0]!r} -> {instead(match[0])}"
        for page in pages()
        if (name := str(page.relative_to(ROOT))).rpartition("/")[0].partition("/")[0] == top
        for number, line in enumerate(page.read_text().splitlines(), 1)
        for match in BANNED.finditer(line)
        if name not in STORED.get(match[0], ())
    ]
    assert found == []
