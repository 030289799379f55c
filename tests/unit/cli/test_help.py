"""What --help says."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "command",
    [
        *(
            "up",
            "tracker",
            "node",
            "workers",
            "gateway",
            "put",
            "get",
            "ls",
            "rm",
            "domain add",
            "host add",
            "device add",
            "rebuild",
            "backup",
            "restore",
            "drill",
            "fids",
        ),
        *("device drain", "fsck start", "fsck status", "rebalance", "rebalance pause", "scrub status", "scrub log"),
    ],
)
def test_help_has_an_example(command: str) -> None:
    """The help of a command shows at least one whole command line, and the exit codes."""
    shown = subprocess.run(
        [sys.executable, "-m", "tawara", *command.split(), "--help"],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    ).stdout
    assert f"\n tawara {command} " in shown or f"| tawara {command} " in shown
    assert "Exit codes:" in shown
