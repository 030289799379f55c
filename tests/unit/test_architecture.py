"""docs/architecture.md and the Makefile: the paths that they name exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
TOP = "src|tests|bin|docs|benchmarks"
PATH = re.compile(rf"`((?:{TOP})/[\w./-]+|[\w-]+\.(?:toml|md))`")
LINK = re.compile(r"\]\(([\w./-]+\.md)(?:#[\w-]+)?\)")


def test_every_named_path_exists() -> None:
    """Each file and folder named in docs/architecture.md is in the repository."""
    named = PATH.findall(PAGE.read_text())
    assert len(named) > 60
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_package_is_on_the_page() -> None:
    """Each package of the project is on the page, with its place among the layers."""
    packages = {path.parent.name for path in (ROOT / "src" / "tawara").glob("*/__init__.py")}
    page = PAGE.read_text()
    assert [name for name in sorted(packages) if f"`src/tawara/{name}/`" not in page] == []


def test_links_between_pages_lead_somewhere() -> None:
    """Each link of a page to another page of the repository has its target."""
    pages = [*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_make_check_names_tests_that_exist() -> None:
    """Each component test that `make check` runs is a file: a renamed one would end the check."""
    listed = re.search(r"^COMPONENTS := \$\(addprefix (\S+),((?:.*\\\n)*.*)\)$", (ROOT / "Makefile").read_text(), re.M)
    assert listed
    names = listed[2].replace("\\\n", " ").split()
    assert len(names) > 5
    assert [name for name in names if not (ROOT / f"{listed[1]}{name}").is_file()] == []
