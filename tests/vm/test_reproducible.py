"""Two builds from scratch give the same bytes."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.vm.build import Options, build_epoch, build_file

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.ordinary_user import run_as_ordinary_user
else:
    from ordinary_user import run_as_ordinary_user

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


TAWARA = str(Path(sys.executable).parent / "tawara")


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_two_builds_from_scratch_give_the_same_bytes(workshop: Workshop, tmp_path: Path) -> None:
    """Packages of both kinds and both indexes are identical, though nothing was cached between the builds, and though
    one of them was made by an ordinary user."""
    description = tmp_path / "same.toml"
    text = 'fqdn = "same.example"\nmemory = "96M"\n[[file]]\npath = "/etc/motd"\ncontent = "same"\n'
    description.write_text(text)
    # The first base is the one that this test run makes; one that outlives runs may be of an older Debian.
    cache = tmp_path / "cache" if "TAWARA_TEST_VM_CACHE" in os.environ else workshop.cache
    build_file(description, Options(tmp_path / "dist", cache, lambda what: None, build_epoch()))
    ours = _digests(tmp_path / "dist")
    files = {path.name: path.read_bytes() for path in (tmp_path / "same.keys").iterdir()}
    files = {f"same.keys/{name}": content for name, content in files.items()} | {"same.toml": text.encode()}
    with run_as_ordinary_user(files, [TAWARA, "vm", "build", "same.toml"]) as home:
        theirs = _digests(home / "dist")
    assert [name for name in ours if ours[name] != theirs.get(name)] == []
    assert ours.keys() == theirs.keys()
    assert any(name.endswith(".rpm") for name in ours)


def test_ordinary_user_reads_below_closed_directories(tmp_path: Path) -> None:
    """An ordinary user runs what it needs from a clone below a directory of mode 0700, and sees no other file there."""
    closed = tmp_path / "closed"
    clone = closed / "clone"
    clone.mkdir(parents=True)
    closed.chmod(0o700)
    (closed / "private").touch()
    program = clone / "program"
    program.write_text("#!/bin/sh\nls -a .. >seen; id -u >>seen\n".replace("..", str(closed)))
    program.chmod(0o755)
    with run_as_ordinary_user({}, [str(program)], [clone]) as home:
        assert (home / "seen").read_text().split() == [".", "..", "clone", "4711"]
