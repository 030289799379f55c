"""The commands of docs/s3.md, executed as written."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.acceptance.store import TAWARA, free_ports, store
from tests.acceptance.test_s3_clients import CLIENTS

PAGE = Path(__file__).parents[2] / "docs" / "s3.md"
pytestmark = pytest.mark.timeout(600)


def blocks() -> list[tuple[str, str]]:
    """The blocks of the page that can be executed, in their order: (language, text)."""
    return re.findall(r"```(sh|python)\n(.*?)```", PAGE.read_text(), re.DOTALL)


def wait_listening(port: int) -> None:
    """Wait until something listens."""
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < end, "the old store did not start"
            time.sleep(0.05)
        else:
            return


def test_the_page(tmp_path: Path) -> None:
    """All commands succeed in the order of the page, and what is copied arrives."""
    port, old = free_ports(2)
    (tmp_path / "var").mkdir()
    (tmp_path / "old" / "pictures").mkdir(parents=True)
    (tmp_path / "old" / "pictures" / "dog.txt").write_text("woof\n")
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "tawara").write_text(f'#!/bin/sh\nexec {shlex.join(TAWARA)} "$@"\n')
    (commands / "tawara").chmod(0o755)
    script = "set -euo pipefail\n"
    for language, text in blocks():
        here = text.replace("127.0.0.1:7081", f"127.0.0.1:{port}").replace("127.0.0.1:9000", f"127.0.0.1:{old}")
        script += here if language == "sh" else f"python - <<'END'\n{here}END\n"
    rclone = Path(TAWARA[0]).parent / "rclone"
    serving = [str(rclone), "serve", "s3", str(tmp_path / "old"), "--addr", f"127.0.0.1:{old}"]
    with (
        store(tmp_path / "var" / "store", f"--set=s3.listen=127.0.0.1:{port}") as one,
        subprocess.Popen([*serving, "--auth-key", "old-id,old-secret"], stderr=subprocess.DEVNULL) as served,
    ):
        try:
            wait_listening(old)
            environment = {
                "PATH": f"{commands}:{CLIENTS}:{rclone.parent}:{os.environ['PATH']}",
                "HOME": str(tmp_path),
                "LC_ALL": "C.UTF-8",
                "TAWARA_TRACKERS": one.tracker,
            }
            done = subprocess.run(
                ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
            )
        finally:
            served.terminate()
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("meow\n") == 2
        assert "b'meow\\n'" in done.stdout
        assert (tmp_path / "restored" / "album" / "cat.txt").read_text() == "meow\n"
        assert one.run("get", "pictures/dog.txt", "-").stdout == "woof\n"
