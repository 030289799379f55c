"""What the recipes of bases make of the packages' trees."""

from __future__ import annotations

import pytest

from tawara.vm.bases import debian12
from tawara.vm.tree import directory, file, symlink

MODULE = "lib/modules/6.1.0-1-cloud-amd64/modules.dep"


@pytest.mark.parametrize("merged", [True, False])
def test_modules_are_where_the_system_looks_for_them(merged: bool) -> None:
    """A kernel's modules are below usr/lib where lib is a link to it, and else below lib."""
    packages = {"lib": symlink("usr/lib") if merged else directory(), "usr/lib": directory()}
    made = debian12.shape(packages, {MODULE: file("")}, [])
    assert (f"usr/{MODULE}" in made, MODULE in made) == (merged, not merged)
    assert made["etc/machine-id"] == file("uninitialized\n")
    assert "lib" in made


def test_modules_in_a_tree_without_lib() -> None:
    """Without a directory lib the modules are below lib."""
    assert MODULE in debian12.shape({}, {MODULE: file("")}, [])
