"""docs/vm.md against the program: every command and option that it shows exists, and every command is shown."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tawara.cli.vm_host import app
from tawara.vm.bases import RECIPES
from tawara.vm.schema import cluster_schema, guest_schema
from tawara.vm.template import describe, describe_cluster

import_module("tawara.cli.vm")  # adds the commands that do not work on a host
ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/vm.md").read_text()
COMMANDS = re.findall(r"tawara vm ([a-z]+)((?: [^`\n|;#]*)?)", TEXT)
"""Each command that the page shows: its verb, and the rest of the line."""


def options(verb: str) -> set[str]:
    """The options of a verb."""
    return {name for argument in app[verb].assemble_argument_collection() for name in argument.names}


@pytest.mark.parametrize(("verb", "rest"), sorted(set(COMMANDS)))
def test_a_command_that_is_shown_exists(verb: str, rest: str) -> None:
    """Its verb and its options are those of the program."""
    assert verb in set(app)
    own = rest.split(" -- ")[0]
    assert set(re.findall(r"(?<= )--[a-z-]+", own)) <= options(verb)


def test_every_command_is_shown() -> None:
    """A verb that the page does not have cannot be found by its readers."""
    shown = {verb for verb, _ in COMMANDS} | set(re.findall(r"`([a-z]+)(?: [^`]*)?`", TEXT))
    assert {verb for verb in app if not verb.startswith("-")} - shown == set()


def test_every_setting_of_the_host_is_explained() -> None:
    """What host.conf may say is on the page."""
    conf = (ROOT / "src/tawara/vm/host_files/host.conf").read_text()
    for name in re.findall(r"^([a-z_]+)=", conf, re.MULTILINE):
        assert f"`{name}" in TEXT, name


def test_every_base_is_explained() -> None:
    """Its name is in the table of bases."""
    for name in RECIPES:
        assert re.search(rf"^\| .*`{name}`", TEXT, re.MULTILINE), name


def test_every_setting_of_a_description_is_in_its_template_or_on_the_page() -> None:
    """What `init` does not write and the page does not name could not be found."""
    known = TEXT + describe("web") + describe_cluster("shop")
    settings = {*guest_schema()["properties"], *cluster_schema()["properties"]}
    assert {each for each in settings if not re.search(rf"\b{each}\b", known)} == set()
