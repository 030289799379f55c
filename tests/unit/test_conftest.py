"""The test process: its setup."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"

_CHILD = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN, signal.getsignal(signal.SIGHUP).name)"
_PARENT = f"""
import runpy, signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
runpy.run_path({str(CONFTEST)!r})
subprocess.run([sys.executable, "-c", {_CHILD!r}], check=True)
"""


def test_children_do_not_inherit_ignored_signals() -> None:
    """Children of the tests get the default signal handlers, though the tests were started with SIGINT ignored."""
    run = subprocess.run([sys.executable, "-c", _PARENT], capture_output=True, text=True, check=True)
    assert run.stdout == "False SIG_DFL\n"
