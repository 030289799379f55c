"""The command line as a whole: help, errors, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tawara import cli
from tawara.cli import output


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`tawara --help` names every command and every exit code, and imports none of the commands."""
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f" {name} " in text for _, name, _, _ in cli._COMMANDS)
    assert "130 Ctrl-C" in text


@pytest.mark.parametrize(
    "command", ["put", "get", "ls", "rm", "info", "status", "domain", "class", "host", "device", "fsck", "rebalance"]
)
def test_every_command_has_complete_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The help of a command has an example or its subcommands, its options and the exit codes."""
    assert cli.main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"tawara {command}" in text
    assert "Exit codes" in text


def test_help_is_quick() -> None:
    """Help imports neither the client nor a daemon, since that takes long."""
    code = (
        "import sys; from tawara import cli; cli.main(['--help']);"
        "print([name for name in ('aiohttp', 'sqlalchemy', 'asyncio', 'rich.markdown') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


_INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
from tawara import cli
cli.build = lambda _: lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
sys.argv = ["tawara", "ls"]
sys.exit(cli.main())
"""


def test_interrupt_ends_a_command_whose_parent_ignored_it() -> None:
    """SIGINT ends a command with 130 even if it was started with SIGINT ignored, as under nohup."""
    run = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (130, "tawara: interrupted.\n")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["stauts"], "tawara: Unknown command 'stauts'; is 'status' meant? See `tawara --help`.\n"),
        (
            ["put", "--nothing"],
            "tawara put: Unknown option: --nothing. Usage: tawara put [OPTIONS] [ARGS...]; see `tawara put --help`.\n",
        ),
        (["ls", "--tracker", "x:y"], "tawara: 'x:y' is not an address. A tracker is HOST:PORT, several have commas"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong command line is reported in one line, with a hint, and exit code 2."""
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(text)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["ls", "--json", "--tracker", "127.0.0.1:1"], 6, "tracker_unreachable"),
        (["ls", "--tracker", "x:y", "--json"], 2, "bad_params"),
        (["put", "--json", "--nothing"], 2, "usage"),
        (["restore", "--json", "/nowhere", "sqlite:x"], 3, "none_match"),
    ],
)
def test_errors_are_json_too(words: list[str], status: int, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is one JSON object on standard error: code, message, hint and exit code."""
    assert cli.main(words) == status
    captured = capsys.readouterr()
    error = json.loads(captured.err)
    assert (error["error"], error["exit"], captured.out) == (code, status, "")
    assert error["message"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`tawara completion` prints a script with the commands, and writes no file."""
    assert cli.main(["completion", shell]) == 0
    assert "rebalance" in capsys.readouterr().out
    assert cli.main(["--install-completion"]) == 2


def test_control_characters_do_not_reach_a_terminal() -> None:
    """Control characters in names are not printed to a terminal."""
    assert output.printable("a\x1b[31m\nb\udcff俵") == "a\\x1b[31m\\nb\\udcff俵"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"), (999_600, "1.0 MB")],
)
def test_human_readable_sizes(size: int, text: str) -> None:
    """Sizes have at most three digits."""
    assert output.human_size(size) == text
