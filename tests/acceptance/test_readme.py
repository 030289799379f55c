"""The first five minutes of the README, executed as written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.acceptance.store import TAWARA, store

ROOT = Path(__file__).parents[2]


def blocks(section: str) -> list[tuple[str, str]]:
    """The fenced blocks of a section of the README: (language, text)."""
    text = (ROOT / "README.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)


def test_first_five_minutes(tmp_path: Path) -> None:
    """Every command succeeds, and every key that is read has the stored content."""
    (tmp_path / "var").mkdir()
    with store(tmp_path / "var" / "store") as one:
        commands = tmp_path / "bin"
        commands.mkdir()
        (commands / "tawara").write_text(f'#!/bin/sh\nexec {shlex.join(TAWARA)} "$@"\n')
        (commands / "tawara").chmod(0o755)
        for name in ("README.md", "docs"):
            (tmp_path / name).symlink_to(ROOT / name)
        environment = {**os.environ, "TAWARA_TRACKERS": one.tracker, "PATH": f"{commands}:{os.environ['PATH']}"}
        outputs = []
        for language, text in blocks("The first five minutes"):
            here = text.replace("127.0.0.1:7080", one.gateway).replace("127.0.0.1:7001", one.tracker)
            program = [sys.executable, "-c", here] if language == "python" else ["bash", "-euo", "pipefail", "-c", here]
            if language != "python":
                here = here.replace("curl ", "curl -fsS ")
                program[-1] = here
            outputs.append(
                subprocess.run(
                    program, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=60
                ).stdout
            )
        by_command_line, over_http, from_python = outputs
        assert "hello.txt" in by_command_line
        assert "docs/design.md" in by_command_line
        assert "\nhello\n" in by_command_line
        assert "All is well" in by_command_line
        assert over_http.startswith("hello\n")
        assert (ROOT / "README.md").read_bytes()[:9].decode() in over_http
        assert from_python == "b'hello'\n"
        assert one.run("info", "files/readme.md", check=False).returncode == 3


def test_the_two_commands_exist() -> None:
    """`make up` and `make test` are targets of the Makefile."""
    ((_, text),) = blocks("Two commands")
    targets = re.findall(r"^make (\w+)", text, re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["up", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
