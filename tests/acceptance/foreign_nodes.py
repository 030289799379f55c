"""Storage nodes of other programs, as their users run them: nginx with its DAV module, and the server of mogstored.
Each is a daemon of a store with separate daemons, in place of `tawara node`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path

from tests.acceptance.daemons import Daemon, SeparateDaemons
from tests.acceptance.store import free_ports

NGINX = """
{user}daemon off; worker_processes 2; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 500; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {home}/incoming;
    server {{
        listen {ip}:{port};
        root {root};
        location ~ ^/dev[0-9]+/ {{
            dav_methods PUT DELETE MKCOL;
            create_full_put_path on;
        }}
    }}
    server {{
        listen {ip}:{get_port};
        root {root};
    }}
}}
"""
"""The second server only reads: `tawara host add --get-port`."""

MOGSTORED = """
SERVER aio_mode = ioaio
CREATE SERVICE mogstored
    SET role = web_server
    SET listen = {ip}:{port}
    SET docroot = {root}
    SET dirindexing = 0
    SET enable_put = 1
    SET enable_delete = 1
    SET min_put_directory = 1
    SET persist_client = 1
ENABLE mogstored
CREATE SERVICE mgmt
    SET role = management
    SET listen = {ip}:{side}
ENABLE mgmt
"""
"""What stands behind the second port knows neither sizes nor digests: they are asked for over HTTP."""
USAGE_PERIOD = 5.0


class Foreign(Daemon, ABC):
    """A server for the devices below `root`."""

    def __init__(self, name: str, directory: Path, root: Path, ip: str, ports: dict[str, int]) -> None:
        super().__init__(name, [], directory)
        self.root, self.ip, self.ports = root, ip, ports
        self._home = directory / f"{name}.home"

    @abstractmethod
    def command(self) -> list[str]:
        """The command that starts it, after its configuration is written."""

    def configure(self, text: str) -> Path:
        """Write a configuration."""
        self._home.mkdir(exist_ok=True)
        path = self._home / "conf"
        user = "user root; " if os.geteuid() == 0 else ""
        path.write_text(text.format(user=user, home=self._home, root=self.root, ip=self.ip, **self.ports))
        return path

    def start(self, environment: dict[str, str] | None = None) -> dict[str, object]:
        """Start it, and wait until it accepts connections."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, start_new_session=True
            )
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection((self.ip, self.ports["port"]), 1).close()
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.05)
            else:
                return {}


class Nginx(Foreign):
    """nginx, with a `tawara node` without HTTP for usage files and the side channel."""

    def command(self) -> list[str]:
        """See Foreign."""
        binary = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert binary, "bin/setup-tests installs it"
        return [binary, "-e", "stderr", "-c", str(self.configure(NGINX))]


class Perlbal(Foreign):
    """Perlbal, configured as by mogstored, with usage files written as by mogstored."""

    def command(self) -> list[str]:
        """See Foreign."""
        binary = shutil.which("perlbal")
        assert binary, "bin/setup-tests installs it"
        return [binary, f"--config={self.configure(MOGSTORED)}"]

    def start(self, environment: dict[str, str] | None = None) -> dict[str, object]:
        """See Foreign."""
        self._ended = threading.Event()
        self._write_usage()
        self._usage = threading.Thread(target=self._keep_usage, name=f"usage of {self.name}")
        self._usage.start()
        return super().start(environment)

    def end(self) -> None:
        """See Daemon."""
        if self.process is not None:
            self._ended.set()
            self._usage.join()
        super().end()

    def _keep_usage(self) -> None:
        while not self._ended.wait(USAGE_PERIOD):
            self._write_usage()

    def _write_usage(self) -> None:
        """Write in place, padded, then truncate, as mogstored does."""
        for device in self.root.iterdir():
            disk = os.statvfs(device)
            free, used = (blocks * disk.f_frsize // 1024 for blocks in (disk.f_bavail, disk.f_blocks - disk.f_bfree))
            text = f"available: {free}\ndisk: {device}\ntime: {int(time.time())}\ntotal: {free + used}\nused: {used}\n"
            with (device / "usage").open("a+b") as file:
                file.seek(0)
                os.pwrite(file.fileno(), text.encode(), 0)
                file.truncate(len(text))


class ForeignDaemons(SeparateDaemons):
    """A store without storage nodes of Tawara."""

    def __init__(self, directory: Path, database: str, kind: type[Foreign]) -> None:
        self.kind = kind
        [self.get_port] = free_ports(1)
        super().__init__(directory, database, processes=1)

    def add_node(self, number: int) -> None:
        """See Apart."""
        name, root = f"node{number}", self.directory / f"h{number}"
        ports = {"port": self.node_port, "get_port": self.get_port, "side": self.side_port}
        self.daemons[name] = self.kind(name, self.directory, root, f"127.0.0.{number}", ports)
        if self.kind is Nginx:
            self.node_daemon(number, f"beside{number}", listen="")

    def ports(self, number: int) -> list[str]:
        """See Apart."""
        reading = [f"--get-port={self.get_port}"] if self.kind is Nginx and number == 2 else []
        return [*super().ports(number), *reading]
