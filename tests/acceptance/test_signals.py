"""Signals that do not stop a daemon: SIGHUP reloads settings, SIGUSR1 and SIGUSR2 are ignored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.store import TAWARA, free_ports

Logged = list[dict[str, object]]


def _until(log: Path, condition: Callable[[Logged], bool]) -> Logged:
    """The events of a log, once the condition holds for them."""
    end = time.monotonic() + 60
    while True:
        events: Logged = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
        if condition(events):
            return events
        assert time.monotonic() < end, log.read_text()[-3000:]
        time.sleep(0.05)


def _count(events: Logged, name: str) -> int:
    return sum(1 for event in events if event["event"] == name)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("command", ["up", "tracker", "node"])
def test_signals_that_do_not_stop(tmp_path: Path, command: str) -> None:
    """A daemon takes the log level from its file on SIGHUP, keeps it if the file is invalid, and continues in any
    case."""
    tracker, node, side, gateway = free_ports(4)
    listens = {"tracker.listen": tracker, "node.listen": node, "node.side_channel": side, "gateway.listen": gateway}
    settings = [f"--set={name}=127.0.0.1:{port}" for name, port in listens.items()]
    file, log = tmp_path / "tawara.toml", tmp_path / "log"
    (tmp_path / "devices" / "dev1").mkdir(parents=True)
    file.write_text("")
    arguments = {
        "up": ["up", str(tmp_path), "--no-nginx"],
        "tracker": ["tracker", "-c", str(file), "--processes", "2"],
        "node": ["node", "-c", str(file)],
    }[command]
    processes = 3 if command == "tracker" else 1
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [*TAWARA, *arguments, "--json", *settings], stdout=subprocess.PIPE, stderr=errors, text=True
        ) as daemon,
    ):
        try:
            assert daemon.stdout is not None
            assert json.loads(daemon.stdout.readline())["event"] == "ready"
            for number in (signal.SIGUSR1, signal.SIGUSR2):
                os.kill(daemon.pid, number)
            _until(log, lambda events: _count(events, "signal_ignored") == 2)
            file.write_text('[log]\nlevel = "loud"\n')
            os.kill(daemon.pid, signal.SIGHUP)
            _until(log, lambda events: _count(events, "configuration_not_reloaded") == processes)
            file.write_text("[tracker]\nconnections = 7\n")
            os.kill(daemon.pid, signal.SIGHUP)
            said = _until(log, lambda events: _count(events, "settings_need_restart") == processes)
            assert _count(said, "configuration_reloaded") == processes
            assert {str(each["settings"]) for each in said if each["event"] == "settings_need_restart"} == {
                "['tracker.connections']"
            }
            file.write_text('[tracker]\nconnections = 7\n[log]\nlevel = "warning"\n')
            os.kill(daemon.pid, signal.SIGHUP)
            said = _until(log, lambda events: _count(events, "settings_need_restart") == 2 * processes)
            assert _count(said, "configuration_reloaded") == processes
        finally:
            daemon.terminate()
        assert daemon.wait(60) == 0
