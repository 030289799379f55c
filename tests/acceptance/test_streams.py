"""Daemons and commands whose standard streams are closed, full, or in another encoding."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.daemons import DOMAIN, separate_daemons
from tests.acceptance.store import Store, store

TAWARA = f"{shlex.quote(sys.executable)} -m tawara"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store, for commands."""
    with store(tmp_path_factory.mktemp("streams") / "store", "--no-nginx") as started:
        yield started


def _sh(running: Store, command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run `command`, in which `tawara` is this program."""
    return subprocess.run(
        ["bash", "-c", command.replace("tawara ", f"{TAWARA} ")],
        capture_output=True, timeout=60, cwd=running.directory.parent,
        env={**os.environ, "TAWARA_TRACKERS": running.tracker, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_a_store_starts_and_works_without_streams(streams: str, tmp_path: Path) -> None:
    """`tawara up` with its three streams closed, or with a full disk, accepts files and stops regularly."""
    one = Store(tmp_path / "store", ["--no-nginx"])
    command = f"exec {shlex.join(one.command())} {streams}"
    process = subprocess.Popen(["bash", "-c", command], start_new_session=True)
    one.process = process  # type: ignore[assignment] # nothing of it is read
    try:
        until = time.monotonic() + 60
        (tmp_path / "f").write_bytes(b"content")
        while one.run("put", str(tmp_path / "f"), "files/k", check=False).returncode:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        assert one.run("get", "files/k", "-").stdout == "content"
        for descriptor in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{descriptor}") in ("/dev/null", "/dev/full")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def test_daemons_work_while_their_log_cannot_be_written(tmp_path: Path) -> None:
    """Tracker, nodes, workers and gateway check devices, copy files and respond, with standard error on a full disk."""
    with separate_daemons(tmp_path, "sqlite:tawara.db") as all_:
        for daemon in all_.daemons.values():
            daemon.within = ("bash", "-c", 'exec "$@" 2>/dev/full', "-")
        all_.start()
        (tmp_path / "f").write_bytes(b"content")
        until = time.monotonic() + 60
        while not all_.succeeds("put", str(tmp_path / "f"), f"{DOMAIN}/k"):
            assert time.monotonic() < until
        while '"copies": 2' not in all_.run("info", f"{DOMAIN}/k", "--json", ends_with=(0, 6)):
            assert time.monotonic() < until
        for daemon in all_.daemons.values():
            daemon.stop()


def test_commands_without_streams(running: Store, tmp_path: Path) -> None:
    """A command whose stream is closed works if it does not need it, and fails with a message otherwise."""
    (running.directory.parent / "f").write_bytes(b"content")
    assert _sh(running, "tawara put f files/a 2>&-").returncode == 0
    assert _sh(running, "tawara put -v f files/b 2>/dev/full").returncode == 0
    assert _sh(running, "tawara put - files/null </dev/null").returncode == 0
    assert _sh(running, "tawara ls files").stdout == b"a\nb\nnull\n"
    for command in ("tawara ls files >&-", "tawara get files/a - >&-", "tawara ls files >/dev/full"):
        done = _sh(running, command)
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1), (command, done.stderr)
        assert b"Traceback" not in done.stderr
    assert _sh(running, "tawara put - files/none <&-").returncode != 0
    assert _sh(running, "tawara ls nowhere 2>/dev/full").returncode == 3


def test_keys_are_utf8_in_any_encoding(running: Store) -> None:
    """Keys are printed as their bytes, whatever encoding Python is configured for."""
    _sh(running, "echo x >f; tawara put f files/俵")
    expected = "俵\n".encode()
    for environment in (
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        assert _sh(running, "tawara ls files/俵", **environment).stdout == expected
        assert _sh(running, "tawara ls -l files/俵", **environment).stdout.endswith(b" " + expected)


def test_names_as_long_as_the_file_system_takes(running: Store) -> None:
    """A key whose name has 255 bytes, of multi-byte characters, is fetched."""
    name = "俵" * 85
    _sh(running, f"echo long >{name}; tawara put {name} files/ && rm {name}")
    done = _sh(running, f"tawara get files/{name} && cat {name}")
    assert (done.stdout, done.stderr) == (b"long\n", b"")


def test_a_missing_directory_is_named(running: Store) -> None:
    """`get` into a directory that does not exist names the directory, and not a temporary file."""
    _sh(running, "echo x >f; tawara put f files/there")
    done = _sh(running, "tawara get files/there missing/there")
    assert (done.returncode, done.stderr) == (3, b"tawara: missing: No such directory.\n")
