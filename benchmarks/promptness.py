"""How soon daemons of their own act on what a tracker was told, and how fast they copy a large file.

    python -m benchmarks.promptness [--engine sqlite postgresql mysql] [--files 30] [--megabytes 512]

A storage node with two devices, a tracker, and workers, each a process of its own. A few small files are stored and
deleted, one at a time with pauses: the time from the tracker's OK until the second copy is there, and until no bytes
are left. Then a large file is copied from one device to the other, beside `dd` from and to the same directories.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks._place import add_option, place
from benchmarks.idle import SETTLE, daemon, free_ports, measure
from benchmarks.tracker import SERVERS
from tawara.client.synchronous import Client
from tawara.model import fid as fids
from tests.contract.servers import PASSWORD

DOMAIN = "files"
SMALL = os.urandom(10_000)
TIMEOUT = 120.0


class Disks:
    """What lies on the devices of the store."""

    def __init__(self, devices: Path) -> None:
        self._devices = sorted(devices.glob("dev*"))

    def replicas(self, fid: int, length: int) -> list[Path]:
        """The whole replicas of a file."""
        places = (device / fids.relative_path(fid) for device in self._devices)
        return [each for each in places if each.exists() and each.stat().st_size == length]

    def wait(self, fid: int, length: int, count: int) -> float:
        """Seconds until there are so many replicas."""
        began = time.perf_counter()
        while len(self.replicas(fid, length)) != count:
            if time.perf_counter() - began > TIMEOUT:
                raise TimeoutError(f"fid {fid} has not got {count} replicas")
            time.sleep(0.001)
        return time.perf_counter() - began


def times(name: str, seconds: Sequence[float]) -> None:
    """Print how long something took."""
    ordered = sorted(seconds)
    median = statistics.median(ordered)
    print(f"{name:>40}   median {median:6.3f} s   longest {ordered[-1]:6.3f} s   ({len(ordered)} files)", flush=True)


def small_files(client: Client, disks: Disks, count: int) -> None:
    """Store and delete small files, one at a time."""
    copied, gone = [], []
    for number in range(count):
        key = f"small {number}"
        client.put(DOMAIN, key, SMALL)
        fid = client.info(DOMAIN, key).fid
        copied.append(disks.wait(fid, len(SMALL), 2))
        time.sleep(random.uniform(0.2, 1.0))  # at no moment that the workers could be waiting for
        client.delete(DOMAIN, key)
        gone.append(disks.wait(fid, len(SMALL), 0))
    times("stored, until its second copy is there", copied)
    times("deleted, until no bytes are left", gone)


def large_file(client: Client, disks: Disks, directory: Path, megabytes: int) -> None:
    """Copy a large file, and have dd do the same."""
    source = directory / "large"
    with source.open("wb") as file:
        for _ in range(megabytes):
            file.write(os.urandom(2**20))
    os.sync()
    client.put(DOMAIN, "large", source)
    fid = client.info(DOMAIN, "large").fid
    ours = disks.wait(fid, megabytes * 2**20, 2)
    began = time.perf_counter()
    command = ("dd", f"if={source}", f"of={directory / 'copy'}", "bs=1M", "conv=fsync", "status=none")
    subprocess.run(command, check=True)
    theirs = time.perf_counter() - began
    name = f"{megabytes} MiB copied"
    print(f"{name:>40}   {megabytes / ours:6.0f} MiB/s   by dd {megabytes / theirs:6.0f} MiB/s", end="   ")
    print(f"{theirs / ours:.2f} of its rate", flush=True)


def look(directory: Path, database: Callable[[str], str], options: argparse.Namespace) -> None:
    """Measure on one database."""
    directory.mkdir()
    parts = ("tracker.listen", "node.listen", "node.side_channel", "gateway.listen", "s3.listen", "dav.listen")
    ports = [f"--set={part}=127.0.0.1:{port}" for part, port in zip(parts, free_ports(len(parts)), strict=True)]
    ports.append(f"--set=store.database={database('promptness')}")
    with daemon(directory, "up", ".", *ports):
        pass  # a first run makes the store
    with ExitStack() as stack:
        stack.enter_context(daemon(directory, "node", *ports))
        _, addresses = stack.enter_context(daemon(directory, "tracker", *ports))
        workers, _ = stack.enter_context(daemon(directory, "workers", *ports))
        client = stack.enter_context(Client([addresses["tracker"]]))
        time.sleep(SETTLE)
        small_files(client, Disks(directory / "devices"), options.files)
        large_file(client, Disks(directory / "devices"), directory, options.megabytes)
        measure("idle workers", workers, options.seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", nargs="+", choices=("sqlite", *SERVERS), default=["sqlite"])
    parser.add_argument("--files", type=int, default=30)
    parser.add_argument("--megabytes", type=int, default=512, help="size of the large file")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to look at idle workers")
    add_option(parser)
    options = parser.parse_args()
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    for engine in options.engine:
        with place(options.directory) as directory:
            server = None if engine == "sqlite" else SERVERS[engine](directory)
            try:
                print(engine, flush=True)
                look(directory / "store", server.create if server else lambda _: "sqlite:tawara.db", options)
            finally:
                if server is not None:
                    server.remove()


if __name__ == "__main__":
    main()
