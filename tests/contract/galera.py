"""A Galera cluster of three MariaDB servers on this machine, for tests: several primaries of one database."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.contract.servers import START_SECONDS, Listen, MariaServer, NotInstalled

NODES = 3
_LIBRARIES = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
_POSITION = re.compile(r"Recovered position:?\s*([0-9a-f-]{36}:-?\d+)")


def _library() -> str:
    found = next((each for each in _LIBRARIES if Path(each).exists()), None)
    if found is None:
        raise NotInstalled("galera-4 is not installed; `bin/setup-databases` installs what the tests need")
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


class GaleraServer(MariaServer):
    """One server of the cluster. Killed and restarted it rejoins with the data that it has."""

    def __init__(self, number: int, groups: list[int]) -> None:
        """Start number `number`; the first one founds the cluster. `groups`: the ports of group communication."""
        self.number = number
        self._groups = groups
        port, self._increments, self._snapshots = _free_ports(3)
        self._founds = number == 0
        self._in_cluster = False
        super().__init__(listen=Listen("127.0.0.1", port, "127.0.0.0/8"))

    def _options(self) -> tuple[str, ...]:
        peers = ",".join(f"127.0.0.1:{port}" for port in self._groups)
        provider = (
            f"gmcast.listen_addr=tcp://127.0.0.1:{self._groups[self.number]};ist.recv_addr=127.0.0.1:{self._increments};"
            "gcache.size=32M;base_host=127.0.0.1;"
            "evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S"
        )
        options = (
            *("--binlog-format=ROW", "--default-storage-engine=InnoDB", "--innodb-autoinc-lock-mode=2"),
            *("--innodb-log-file-size=16M", "--wsrep-on=ON", f"--wsrep-provider={_library()}"),
            *(f"--wsrep-cluster-address=gcomm://{peers}", "--wsrep-cluster-name=tawara-tests"),
            *(f"--wsrep-node-name=node{self.number}", "--wsrep-node-address=127.0.0.1"),
            *("--wsrep-sst-method=rsync", f"--wsrep-sst-receive-address=127.0.0.1:{self._snapshots}"),
            *("--wsrep-slave-threads=2", f"--wsrep-provider-options={provider}"),
        )
        if self._founds:
            return (*options, "--wsrep-new-cluster")
        return (*options, f"--wsrep-start-position={self._position()}") if self._in_cluster else options

    def start(self) -> None:
        """See Server. Waits until it is synchronised with the others."""
        super().start()
        end = time.monotonic() + START_SECONDS
        while self._status("wsrep_local_state_comment") != "Synced":
            assert time.monotonic() < end, self._process.log.read_text(errors="replace")[-3000:]
            time.sleep(0.05)
        self._founds, self._in_cluster = False, True

    def _status(self, name: str) -> str:
        done = subprocess.run(
            [*self._client(f"SHOW STATUS LIKE '{name}'"), "-N", "-B"], capture_output=True, text=True, check=False
        )
        return done.stdout.partition("\t")[2].strip()

    def _position(self) -> str:
        """Its position when it ended, so that it receives only the missing transactions."""
        command = [*self._command(), "--no-defaults", f"--datadir={self._process.data}", "--wsrep-recover"]
        as_user = self._process.as_user([*command, f"--socket={self._socket}", "--skip-networking"])
        done = subprocess.run(as_user, cwd=self._process.directory, capture_output=True, text=True, check=True)
        found = _POSITION.findall(done.stdout + done.stderr)
        return found[-1] if found else "00000000-0000-0000-0000-000000000000:-1"

    def _create_data(self) -> list[str]:
        return super()._create_data() if self._founds else ["mkdir", str(self._process.data)]  # filled by a snapshot

    def _make_user(self) -> None:
        if self.number == 0:
            super()._make_user()  # the others get it from this one


@contextmanager
def galera() -> Iterator[list[GaleraServer]]:
    """Three synchronised servers, removed at the end."""
    groups = _free_ports(NODES)
    servers: list[GaleraServer] = []
    try:
        for number in range(NODES):
            servers.append(GaleraServer(number, groups))
        yield servers
    finally:
        for server in reversed(servers):
            server.kill()
            server.remove()
