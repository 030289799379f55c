"""The command's package for hosts: it has all files of `tawara vm`, and runs on any Python."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tawara.vm.tool_package import LAUNCHER, SITE, digest_of_tool, tool_files, tool_package


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed program: only the files of the package."""
    root = tmp_path_factory.mktemp("root")
    for name, source in tool_files().items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
    program = root / "tawara"
    program.write_text(LAUNCHER.replace(SITE, str(root / SITE.lstrip("/"))))
    return program


def run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it without the libraries of this environment."""
    return subprocess.run([sys.executable, "-I", "-S", str(program), *words], capture_output=True, text=True)


@pytest.mark.slow
def test_it_runs_with_only_its_package(program: Path) -> None:
    """Help and errors of `tawara vm` need no other library."""
    done = run(program, "vm", "list", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "--failed" in done.stdout
    done = run(program, "vm", "check", "none.toml")
    assert (done.returncode, done.stderr.split(".")[0]) == (2, "tawara: There is no none")


@pytest.mark.parametrize("words", [("put", "a", "b/c"), ("vm", "publish", "dist", "packages/stable")])
def test_commands_of_the_store_are_reported_as_missing(program: Path, words: tuple[str, ...]) -> None:
    """A command that is not in the package says so, and what to install."""
    done = run(program, *words)
    assert done.returncode == 2
    assert "is not part of this installation" in done.stderr
    assert "pip install tawara" in done.stderr


def test_it_has_no_compiled_code() -> None:
    """It has no file for one version of Python or one processor, and includes the licences of libraries."""
    names = [Path(name) for name in tool_files()]
    assert not {".so", ".pyc", ".pyd"} & {name.suffix for name in names}
    assert {name.parent.name for name in names if name.name.startswith("LICENSE")} >= {"attrs", "cyclopts", "rich"}


def test_its_content_decides_whether_it_is_rebuilt(tmp_path: Path) -> None:
    """Another content has another digest; the mode of its one program is kept."""
    files = {f"{SITE}/a": tmp_path / "a", f"{SITE}/tawara/vm/host_files/reconcile": tmp_path / "a"}
    (tmp_path / "a").write_text("one")
    before = digest_of_tool(files)
    (tmp_path / "a").write_text("two")
    assert digest_of_tool(files) != before
    modes = {file.target: file.mode for file in tool_package(files, tmp_path / "program").files}
    assert modes == {"/usr/bin/tawara": 0o755, f"{SITE}/a": 0o644, f"{SITE}/tawara/vm/host_files/reconcile": 0o755}
