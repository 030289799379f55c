"""The cost of idle daemons (memory, wake-ups, processor time) and of connections.

    python -m benchmarks.idle [--seconds 30] [--connections 5000 10000] [--processes 1] [--engine sqlite]

First `tawara up`, then separate daemons (a storage node with four devices, a tracker) on each named database. Wake-ups
are the voluntary context switches of all threads; processor time is the kernel's, in nanoseconds. Each held
connection makes one request before memory is measured, and one afterwards, all at once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tracker import SERVERS
from tests.contract.servers import PASSWORD

TAWARA = (sys.executable, "-m", "tawara")
SETTLE = 6.0
"""Seconds after a start until the monitor has had its first rounds."""


@dataclass(frozen=True)
class Account:
    """The resources that processes have used so far."""

    at: float
    wakeups: int
    seconds: float
    rss: int
    pss: int
    """Bytes; `pss` shares out the pages that several processes have in common."""

    @classmethod
    def of(cls, pids: Sequence[int]) -> Account:
        """The sum over processes."""
        wakeups = nanoseconds = rss = pss = 0
        for pid in pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                wakeups += int(_field(task / "status", "voluntary_ctxt_switches:"))
                nanoseconds += int((task / "schedstat").read_text().split()[0])
            rss += int(_field(Path(f"/proc/{pid}/status"), "VmRSS:")) * 1024
            pss += int(_field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")) * 1024
        return cls(time.monotonic(), wakeups, nanoseconds / 1e9, rss, pss)

    def since(self, earlier: Account) -> str:
        """The rates of wake-ups and processor time, and the memory."""
        seconds = self.at - earlier.at
        return (
            f"{(self.wakeups - earlier.wakeups) / seconds:5.1f} wake-ups/s"
            f"   {100 * (self.seconds - earlier.seconds) / seconds:5.2f} % of a core   {self.memory()}"
        )

    def memory(self) -> str:
        """Resident memory."""
        return f"{self.rss / 2**20:6.1f} MiB resident ({self.pss / 2**20:.1f} with shared pages shared out)"


def _field(path: Path, name: str) -> str:
    return next(line.split()[1] for line in path.read_text().splitlines() if line.startswith(name))


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


@contextmanager
def daemon(directory: Path, *arguments: str) -> Iterator[tuple[int, dict[str, str]]]:
    """A tawara command that serves until the block ends: its pid, and the addresses that it tells."""
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [*TAWARA, *arguments, "--json"], cwd=directory, stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError((directory / "log").read_text()[-2000:])
        yield process.pid, json.loads(line)["addresses"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def measure(what: str, pid: int, seconds: float) -> None:
    """Observe an idle daemon for some time."""
    time.sleep(SETTLE)
    before = Account.of(family(pid))
    time.sleep(seconds)
    print(f"{what:>24}   {Account.of(family(pid)).since(before)}", flush=True)


def hold(address: str, pid: int, count: int) -> None:
    """Hold connections, all of which are asked at once now and then."""
    host, _, port = address.rpartition(":")
    pids = family(pid)
    before = Account.of(pids)
    with ExitStack() as stack:
        held = [stack.enter_context(socket.create_connection((host, int(port)), 30)) for _ in range(count)]
        _ask_all(held)
        with_them = Account.of(pids)
        each = (with_them.pss - before.pss) / count
        print(f"{count:>12} connections   {with_them.memory()}, {each:,.0f} bytes each", flush=True)
        time.sleep(2)
        began = time.monotonic()
        _ask_all(held)
        print(f"{'':>24}   all of them answered in {time.monotonic() - began:.2f} s", flush=True)


def _ask_all(held: Sequence[socket.socket]) -> None:
    for each in held:
        each.sendall(b"noop\r\n")
    for each in held:
        if each.recv(100) != b"OK \r\n":
            raise RuntimeError("a connection was not served")


def free_ports(count: int) -> list[int]:
    """Free TCP ports."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look at an idle daemon")
    parser.add_argument("--connections", type=int, nargs="*", default=[5000, 10_000])
    parser.add_argument("--processes", type=int, default=1, help="of the tracker")
    parser.add_argument("--engine", nargs="+", choices=("sqlite", *SERVERS), default=["sqlite"])
    options = parser.parse_args()
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for engine in options.engine:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
            Path(name).chmod(0o755)  # the database's own user goes through it to its files
            server = None if engine == "sqlite" else SERVERS[engine](Path(name))
            try:
                print(engine)
                look(Path(name), server.create if server else lambda _: "sqlite:tawara.db", options)
            finally:
                if server is not None:
                    server.remove()


def look(directory: Path, database: Callable[[str], str], options: argparse.Namespace) -> None:
    """Measure on databases of one kind; `database` makes an empty one of a name, and says its URL."""
    store = directory / "store"
    store.mkdir()
    parts = ("tracker.listen", "node.listen", "node.side_channel", "gateway.listen", "s3.listen", "dav.listen")
    ports = [f"--set={part}=127.0.0.1:{port}" for part, port in zip(parts, free_ports(len(parts)), strict=True)]
    ports.append(f"--set=store.database={database('idle')}")
    with daemon(store, "up", ".", *ports) as (pid, _):
        measure("tawara up", pid, options.seconds)
    with daemon(store, "node", *ports) as (node, _):
        many = f"--processes={options.processes}"
        with daemon(store, "tracker", many, *ports) as (tracker, addresses):
            measure(f"tracker, {options.processes} process(es)", tracker, options.seconds)
            measure("storage node", node, options.seconds)
            for count in options.connections:
                hold(addresses["tracker"], tracker, count)


if __name__ == "__main__":
    main()
