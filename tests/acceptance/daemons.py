"""A store whose components run separately, as on several machines: `tawara tracker`, `node`, `workers` and `gateway`,
each a process (or a parent with several), on one database.

Host `hI` is a storage node on 127.0.0.I with two devices. All daemons are started with one configuration file.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.store import STOP_SECONDS, TAWARA, free_ports

DOMAIN = "d"
DEVICES = 2


@dataclass
class Daemon:
    """One daemon, which can be started, stopped, killed and restarted."""

    name: str
    arguments: list[str]
    directory: Path
    process: subprocess.Popen[str] | None = None
    within: tuple[str, ...] = ()
    """Prefix of its command: a program that executes it, such as `nsenter` with a network namespace."""

    @property
    def log(self) -> Path:
        """The file of its standard error."""
        return self.directory / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The main process."""
        assert self.process is not None
        return self.process.pid

    def start(self, environment: dict[str, str] | None = None) -> dict[str, object]:
        """Start it and wait until it reports that it is ready. Returns that line."""
        self._forget()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.within, *TAWARA, *self.arguments, "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.directory,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"{self.name} ended with {self.process.wait()}: {self.log.read_text()[-3000:]}"
        ready: dict[str, object] = json.loads(line)
        assert ready["event"] == "ready"
        return ready

    def stop(self, by: signal.Signals = signal.SIGTERM) -> float:
        """Stop it. Returns the seconds that it took. It must exit with 0 in time and leave no process."""
        began = time.monotonic()
        assert self.process is not None
        family = [self.pid, *self.children()]
        self.process.send_signal(by)
        status = self.process.wait(STOP_SECONDS + 5)
        took = time.monotonic() - began
        self._forget()
        assert status == 0, self.log.read_text()[-3000:]
        assert not [pid for pid in family if alive(pid)]
        return took

    def kill(self) -> None:
        """Send SIGKILL to the main process only."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._forget()

    def end(self) -> None:
        """Send SIGKILL to all its processes at once."""
        if self.process is not None:
            for pid in (self.process.pid, *self.children()):
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # what the children have started
            self.process.wait(10)
            self._forget()

    def children(self) -> list[int]:
        """Its child processes."""
        try:
            found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return []
        return [int(each) for each in found.split()]

    def _forget(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class SeparateDaemons:
    """The daemons of one store, not started yet."""

    directory: Path
    database: str
    nodes: int = 2
    processes: int = 2
    daemons: dict[str, Daemon] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tracker, self.node_port, self.side_port, gateway = free_ports(4)
        self.tracker, self.gateway = f"127.0.0.1:{tracker}", f"127.0.0.1:{gateway}"
        (self.directory / "tawara.toml").write_text(
            f"[store]\ndatabase = {json.dumps(self.database)}\n"
            f'[tracker]\nlisten = "{self.tracker}"\n'
            f'[node]\nside_channel = ":{self.side_port}"\n'
            f'[gateway]\nlisten = "{self.gateway}"\n'
        )
        (self.directory / "secret.key").write_text("a key for the tests only\n")
        self._add("tracker", f"--processes={self.processes}")
        for number in range(1, self.nodes + 1):
            for devid in self.devids(number):
                (self.directory / f"h{number}" / f"dev{devid}").mkdir(parents=True)
            self.add_node(number)
        self._add("workers")
        self._add("gateway")

    def _add(self, component: str, *arguments: str, name: str = "") -> None:
        self.daemons[name or component] = Daemon(name or component, [component, *arguments], self.directory)

    def add_node(self, number: int) -> None:
        """The storage node of a host, not started."""
        self.node_daemon(number, f"node{number}", listen=self.node(number))

    def node_daemon(self, number: int, name: str, *, listen: str) -> None:
        """A `tawara node` of a host."""
        listeners = (f"--set=node.listen={listen}", f"--set=node.side_channel=127.0.0.{number}:{self.side_port}")
        self._add("node", *listeners, f"--set=node.devices=h{number}", name=name)

    def add_tracker(self) -> Daemon:
        """Another tracker with its own address, not started."""
        self.second_tracker = f"127.0.0.1:{free_ports(1)[0]}"
        self._add(
            "tracker", f"--processes={self.processes}", f"--set=tracker.listen={self.second_tracker}", name="tracker2"
        )
        return self.daemons["tracker2"]

    def node(self, number: int) -> str:
        """HOST:PORT of a storage node."""
        return f"127.0.0.{number}:{self.node_port}"

    def devids(self, host: int) -> range:
        """The devices of host `hI`."""
        return range((host - 1) * DEVICES + 1, host * DEVICES + 1)

    def start(self) -> None:
        """Start all daemons, and create the domain and hosts by the command line, as an operator does."""
        late = ("workers", "gateway")
        for name in [each for each in self.daemons if each not in late]:
            self.daemons[name].start()
        self.describe()
        for name in late:
            self.daemons[name].start()

    def describe(self) -> None:
        """Create the domain, the hosts and their devices."""
        self.run("domain", "add", DOMAIN)
        for number in range(1, self.nodes + 1):
            ports = self.ports(number)
            self.run("host", "add", f"h{number}", f"--ip=127.0.0.{number}", *ports, "--state=alive")
            for devid in self.devids(number):
                self.run("device", "add", str(devid), f"--host=h{number}")

    def ports(self, number: int) -> list[str]:
        """The arguments of `tawara host add` for the address of a storage node."""
        return [f"--port={self.node_port}"]

    def run(self, *arguments: str, ends_with: Collection[int] = (0,), **options: object) -> str:
        """Run a tawara command and return its output; it must exit with 0 or one of these codes."""
        done = self._call(*arguments, **options)
        assert done.returncode in ends_with, (arguments, done.stdout, done.stderr)
        return done.stdout

    def succeeds(self, *arguments: str) -> bool:
        """Whether a tawara command exits with 0."""
        return self._call(*arguments).returncode == 0

    def _call(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return] # options are run()'s own
            [*TAWARA, *arguments],
            **{"text": True, "capture_output": True, "timeout": 60, **options},
            env={**os.environ, "TAWARA_TRACKERS": self.tracker},
        )

    def ask(self, line: bytes) -> bytes:
        """A tracker's answer to one line."""
        host, _, port = self.tracker.partition(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(line + b"\n")
            return connection.makefile("rb").readline()


@contextmanager
def separate_daemons(
    directory: Path, database: str, *, nodes: int = 2, processes: int = 2
) -> Iterator[SeparateDaemons]:
    """A store whose daemons are all stopped at the end of the block."""
    store = SeparateDaemons(directory, database, nodes, processes)
    try:
        yield store
    finally:
        for daemon in store.daemons.values():
            daemon.end()
