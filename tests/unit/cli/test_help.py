"""The output of --help."""

from __future__ import annotations

import sys

import pytest

from tawara import cli


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
            "key create",
            "key show",
            "key revoke",
            "key reseal",
            "mount",
            "umount",
        ),
        *("device drain", "fsck start", "fsck status", "rebalance", "rebalance pause", "scrub status", "scrub log"),
    ],
)
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The help of a command has at least one complete example and the exit codes."""
    # A command group keeps the short description that an earlier `build` of this process has given it.
    monkeypatch.delitem(sys.modules, "tawara.cli.rebalance", raising=False)
    assert cli.main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"\n tawara {command} " in shown or f"| tawara {command} " in shown
    assert "Exit codes:" in shown
