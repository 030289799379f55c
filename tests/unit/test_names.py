"""Names of classes and modules: a name leads to one place."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "tawara"
MOST_PACKAGES = 3
"""Packages in which a module name may occur without a reason."""
ONE_PER_LAYER = {
    "fsck": "the check: its command, verbs, worker, statements and decisions",
    "rebalance": "the rebalance: its command, verbs, worker, statements and decisions",
    "drain": "emptying a device: its command, worker, statements and decisions",
    "scrub": "the scrub: its command, worker, statements and decisions",
    "server": "the listening server of a component, and the connection to a database server",
}
"""Module name -> why it occurs in more packages than that."""


def test_no_two_public_classes_share_a_name() -> None:
    """The name of a public class occurs once in the package."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(SOURCE)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_a_module_name_in_many_packages_has_a_reason() -> None:
    """A module name occurs in at most three packages, except one per layer of a listed feature."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(SOURCE.rglob("*.py")):
        if not path.stem.startswith("__"):
            found[path.stem].add(str(path.parent.relative_to(SOURCE)))
    many = {stem: packages for stem, packages in found.items() if len(packages) > MOST_PACKAGES}
    assert {stem: packages for stem, packages in many.items() if stem not in ONE_PER_LAYER} == {}
