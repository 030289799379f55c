"""A complete store as a user has it: `tawara up DIR` as its own process, on free ports."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TAWARA = [sys.executable, "-m", "tawara"]
START_SECONDS = 40.0
STOP_SECONDS = 12.0


def free_ports(count: int) -> list[int]:
    """Free ports, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass
class Store:
    """A directory and the ports of its store, which can be started and stopped."""

    directory: Path
    flags: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        tracker, node, side, gateway, s3, webdav = free_ports(6)
        self.tracker, self.node, self.gateway = (f"127.0.0.1:{port}" for port in (tracker, node, gateway))
        self.s3, self.webdav = f"127.0.0.1:{s3}", f"127.0.0.1:{webdav}"
        self.settings = [
            f"--set=tracker.listen={self.tracker}",
            f"--set=node.listen={self.node}",
            f"--set=node.side_channel=127.0.0.1:{side}",
            f"--set=gateway.listen={self.gateway}",
            f"--set=s3.listen={self.s3}",
            f"--set=dav.listen={self.webdav}",
        ]

    @property
    def key(self) -> str:
        """The secret key."""
        return (self.directory / "secret.key").read_text().strip()

    @property
    def log(self) -> Path:
        """The file of the process's standard error."""
        return self.directory.with_name(self.directory.name + ".log")

    def command(self) -> list[str]:
        """The command that starts it."""
        return [*TAWARA, "up", str(self.directory), "--json", *self.settings, *self.flags]

    def start(self) -> dict[str, object]:
        """Start it, and wait until it reports that it is ready; return its output."""
        self._close()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"ended with {self.process.wait()}: {self.log.read_text()[-3000:]}"
        ready: dict[str, object] = json.loads(line)
        assert ready["event"] == "ready"
        return ready

    def stop(self) -> float:
        """Stop it, as Ctrl-C does; return the seconds that it took. It must succeed in time."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(STOP_SECONDS + 5)
        took = time.monotonic() - began
        self._close()
        assert status == 0, self.log.read_text()[-3000:]
        return took

    def kill(self) -> None:
        """Send SIGKILL to all its processes at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self._close()

    def _close(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    def processes(self) -> list[int]:
        """The pids of all its processes."""
        assert self.process is not None
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                except (OSError, IndexError):
                    continue
                if session == self.process.pid:
                    found.append(int(entry.name))
        return found

    def run(self, *arguments: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a tawara command against it."""
        environment = {**os.environ, "TAWARA_TRACKERS": self.tracker}
        return subprocess.run(  # type: ignore[call-overload,no-any-return] # options are run()'s own
            [*TAWARA, *arguments],
            **{"check": check, "text": True, "capture_output": True, "env": environment, "timeout": 100, **options},
        )


def peak_memory(pid: int) -> int:
    """The peak resident memory of a process in bytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


@contextmanager
def store(directory: Path, *flags: str) -> Iterator[Store]:
    """A started store, killed at the end if it still runs."""
    one = Store(directory, list(flags))
    try:
        one.start()
        yield one
    finally:
        one.kill()
