"""Two builds from nothing give the same bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.vm.build import Options, build_epoch, build_file

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop

pytestmark = [pytest.mark.vm, pytest.mark.timeout(400), pytest.mark.xdist_group("vm")]


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_builds_from_nothing_give_the_same_bytes(workshop: Workshop, tmp_path: Path) -> None:
    """Packages of both kinds and both indexes are identical, though nothing was cached between the builds."""
    description = tmp_path / "same.toml"
    description.write_text('fqdn = "same.example"\nmemory = "96M"\n[[file]]\npath = "/etc/motd"\ncontent = "same"\n')
    found = []
    for turn in ("one", "two"):
        out = tmp_path / turn
        build_file(description, Options(out, tmp_path / f"cache-{turn}", lambda what: None, build_epoch()))
        found.append(_digests(out))
    different = sorted(name for name in found[0] if found[0][name] != found[1].get(name))
    assert different == []
    assert found[0].keys() == found[1].keys()
    assert any(name.endswith(".rpm") for name in found[0])
