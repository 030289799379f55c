"""The JSON Schemas agree with the readers: editors accept what `build` accepts, and refuse what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tawara.vm.cluster import read_cluster
from tawara.vm.errors import SpecError
from tawara.vm.schema import cluster_schema, guest_schema
from tawara.vm.spec_read import read_guest
from tawara.vm.template import describe, describe_cluster

EXAMPLES = Path(__file__).parents[3] / "examples"


def refused(schema: dict[str, Any], text: str) -> bool:
    """Whether an editor marks anything in this description."""
    return not Draft202012Validator(schema).is_valid(tomllib.loads(text))


def mistakes(read: Callable[..., object], text: str) -> dict[str, str]:
    """Where the reader finds mistakes, and its advice."""
    with pytest.raises(SpecError) as caught:
        read(text, "x.toml", "x")
    return {each.where: each.remedy for each in caught.value.mistakes}


@pytest.mark.parametrize("schema", [guest_schema(), cluster_schema()])
def test_the_schemas_are_valid(schema: dict[str, Any]) -> None:
    """They conform to the draft that they name."""
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (guest_schema(), describe("web")),
        (cluster_schema(), describe_cluster("shop")),
        (cluster_schema(), (EXAMPLES / "trio" / "trio.toml").read_text()),
        (cluster_schema(), (EXAMPLES / "store" / "store.toml").read_text()),
    ],
)
def test_shipped_descriptions_are_accepted(schema: dict[str, Any], text: str) -> None:
    """Templates and examples have no marks in an editor."""
    assert not refused(schema, text)


@pytest.mark.parametrize(
    ("schema", "read", "text", "where"),
    [
        (guest_schema(), read_guest, "nonsense = 1", "nonsense"),
        (guest_schema(), read_guest, "cpus = 0", "cpus"),
        (guest_schema(), read_guest, '[disk]\nbus = "usb"', "disk.bus"),
        (cluster_schema(), read_cluster, "nonsense = 1\n[guest.a]", "nonsense"),
        (cluster_schema(), read_cluster, "guest = {}", "guest"),
        (cluster_schema(), read_cluster, "[guest.a]\nnonsense = 1", "guest.a.nonsense"),
        (cluster_schema(), read_cluster, '[guest.a]\nname = "b"', "guest.a.name"),
        (cluster_schema(), read_cluster, '[defaults]\nrole = "b"\n[guest.a]', "defaults.role"),
        (cluster_schema(), read_cluster, '[role.b]\nmemory = "lots"\n[guest.a]', "role.b.memory"),
        (cluster_schema(), read_cluster, '[addresses]\nhost0 = "all"\n[guest.a]', "addresses.host0"),
        (cluster_schema(), read_cluster, "[guest.a.disk]\nbus = 5", "guest.a.disk.bus"),
    ],
)
def test_both_find_the_mistake(schema: dict[str, Any], read: Callable[..., object], text: str, where: str) -> None:
    """What the reader refuses is also marked in the editor."""
    assert refused(schema, text)
    assert where in mistakes(read, text)


def known(read: Callable[..., object], text: str, where: str) -> list[str]:
    """The settings that the reader accepts in the place of an invalid one."""
    return mistakes(read, text)[where].removeprefix("Known here: ").rstrip(".").split(", ")


def test_the_schemas_have_the_readers_settings() -> None:
    """An editor offers exactly the settings that `build` accepts."""
    guest, cluster = guest_schema(), cluster_schema()
    assert sorted(guest["properties"]) == known(read_guest, "nonsense = 1", "nonsense")
    assert sorted(cluster["properties"]) == known(read_cluster, "nonsense = 1\n[guest.a]", "nonsense")
    settings = known(read_cluster, "[guest.a]\nnonsense = 1", "guest.a.nonsense")
    assert sorted([*cluster["$defs"]["settings"]["properties"], "name"]) == settings


@pytest.mark.parametrize(("words", "schema"), [([], guest_schema()), (["--cluster"], cluster_schema())])
def test_init_writes_a_description_and_its_schema(tmp_path: Path, words: list[str], schema: dict[str, Any]) -> None:
    """`tawara vm init` writes what `tawara vm check` accepts, and the schema that the description names."""
    tawara = Path(sys.executable).parent / "tawara"
    subprocess.run([tawara, "vm", "init", "shop", *words], cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(
        [tawara, "vm", "check", "shop.toml"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert "nothing is wrong" in done.stdout
    assert json.loads((tmp_path / "shop.schema.json").read_text()) == schema
    assert "#:schema ./shop.schema.json" in (tmp_path / "shop.toml").read_text()
