"""Package files that are kept in the cache of builds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.vm import build
from tawara.vm.build import Options
from tawara.vm.packager import file_name


@pytest.mark.parametrize(("name", "content"), [("tawara-web", b"older"), ("tawara-vm", b"deb")])
def test_only_missing_files_are_made(tmp_path: Path, name: str, content: bytes) -> None:
    """Missing kinds are made once and copied out; an existing result stays, except that of the tool itself."""
    package = cast("Any", SimpleNamespace(name=name, version="1", arch="amd64"))
    options = Options(out=tmp_path / "out", cache=tmp_path / "cache", report=lambda *_: None)
    kept, made = tmp_path / "kept", list[tuple[str, ...]]()

    def make(kinds: tuple[str, ...]) -> None:
        made.append(kinds)
        for kind in kinds:
            (kept / file_name(package, kind)).write_bytes(kind.encode())

    kept.mkdir()
    (kept / file_name(package, "rpm")).write_bytes(b"rpm")
    first = build._copy_kept(package, kept, make, options)
    assert made == [("deb",)]
    assert {path.read_bytes() for path in first} == {b"deb", b"rpm"}
    deb = tmp_path / "out" / file_name(package, "deb")
    deb.write_bytes(b"older")
    build._copy_kept(package, kept, make, options)
    assert len(made) == 1
    assert deb.read_bytes() == content
