"""Citations of docs/mogilefs.md in the code: `docs/mogilefs.md 10.6` names a section that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NUMBER = r"\d{1,2}(?:\.\d{1,2})?"
CITED = re.compile(rf"docs/mogilefs\.md\s+({NUMBER}(?:(?:, and |, | and | to ){NUMBER})*)")
BARE = re.compile(
    r"(?<!RFC \d{4}, )\bsections? \d|\breference: |\b[Rr]eference, section|\(see \d+\.\d+\)", re.IGNORECASE
)
HEADING = re.compile(rf"^(?:#+ (?={NUMBER}[ .])|(?=\d{{1,2}}\.\d{{1,2}} ))({NUMBER})[ .]", re.MULTILINE)
"""A heading, or a numbered paragraph such as `17.1 fid allocation: …`."""


def sources() -> list[Path]:
    """Every Python file of the project."""
    return sorted(path for top in ("src", "tests", "benchmarks") for path in (ROOT / top).rglob("*.py"))


def cited(text: str) -> list[str]:
    """The sections of docs/mogilefs.md that `text` cites."""
    return [number for each in CITED.findall(text) for number in re.findall(NUMBER, each)]


def test_every_cited_section_exists() -> None:
    """Each section of docs/mogilefs.md that the code cites exists, and there are citations."""
    sections = set(HEADING.findall((ROOT / "docs/mogilefs.md").read_text()))
    found = [(path, number) for path in sources() for number in cited(path.read_text())]
    missing = [f"{path.relative_to(ROOT)}: {number}" for path, number in found if number not in sections]
    assert len(found) > 100
    assert missing == []


def test_every_citation_names_its_document() -> None:
    """A section is never cited without its document: docs/mogilefs.md, or an RFC."""
    unnamed = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources()
        if path != Path(__file__)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if BARE.search(line) and "RFC" not in line and "docs/mogilefs.md" not in line
    ]
    assert unnamed == []


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("(docs/mogilefs.md 10.6)", ["10.6"]),
        ("(docs/mogilefs.md 8.1 to 8.4)", ["8.1", "8.4"]),
        ("docs/mogilefs.md 10.6, 11.1 and 12.", ["10.6", "11.1", "12"]),
        ("RFC 9110, section 14.2", []),
    ],
)
def test_what_counts_as_a_citation(text: str, sections: list[str]) -> None:
    """Lists and ranges of sections are understood."""
    assert cited(text) == sections
