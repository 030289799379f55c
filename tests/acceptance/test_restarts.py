"""Daemons are restarted under load, and no request is lost.

Either a service manager keeps their listening sockets, or a balancer in front looks at /readyz.
"""

from __future__ import annotations

import array
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.daemons import DOMAIN
from tests.acceptance.store import TAWARA, free_ports

pytestmark = pytest.mark.timeout(400)

SECONDS = 120.0
"""Time limit of a request, and of each wait: a busy machine starts a daemon slowly."""
PROMPT = 0.5
"""Seconds after which a client has not sent its request at once."""
REQUESTS = int(os.environ.get("TAWARA_TEST_REQUESTS", "300"))
"""Fewest requests before and after each restart."""
KEY = "a key for the tests only"


class ServiceManager:
    """What systemd does for one service: it keeps the listening sockets, and passes them to the next process."""

    def __init__(self, directory: Path, name: str, arguments: list[str]) -> None:
        self._path = directory / f"{name}.notify"
        self._told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told.bind(str(self._path))
        self._told.settimeout(SECONDS)
        self._directory, self._arguments, self._log = directory, arguments, directory / f"{name}.log"
        self.kept: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        environment = {**os.environ, "NOTIFY_SOCKET": str(self._path)}
        script = 'exec "$@"'
        if self.kept:
            environment["LISTEN_FDNAMES"] = ":".join(self.kept)
            moved = " ".join(f"{3 + number}<&{each}" for number, each in enumerate(self.kept.values()))
            script = f'export LISTEN_FDS={len(self.kept)} LISTEN_PID=$$; exec "$@" {moved}'
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", script, "-", *TAWARA, *self._arguments],
                cwd=self._directory, env=environment, pass_fds=tuple(self.kept.values()),
                stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip
        while "READY=1" not in self._receive():
            assert self._process.poll() is None, self._log.read_text()

    def restart(self) -> None:
        """Stop the service as systemd does with KillMode=mixed, and start it again."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Send SIGTERM to the main process; it must end in order."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        while "STOPPING=1" not in self._receive():
            pass
        assert self._process.wait(SECONDS) == 0, self._log.read_text()

    def end(self) -> None:
        """End all its processes and close what was kept."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(SECONDS)
        self.forget()
        self._told.close()

    def forget(self) -> None:
        """Close the kept sockets: the next process opens its own."""
        for each in self.kept.values():
            os.close(each)
        self.kept.clear()

    def _receive(self) -> str:
        text, rights, _, _ = self._told.recvmsg(4096, socket.CMSG_SPACE(16))
        lines = dict(each.split("=", 1) for each in text.decode().splitlines())
        for _, _, data in rights:
            descriptors = array.array("i")
            descriptors.frombytes(data)
            (self.kept[lines["FDNAME"]],) = descriptors
        return text.decode()


class Load:
    """Requests, each on a connection of its own, from several threads until the end of the block."""

    def __init__(self, request: Callable[[], None], threads: int = 2) -> None:
        self._request, self._stopping = request, threading.Event()
        self.done = 0
        self.failed: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for each in self._threads:
            each.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._request()
            except (OSError, AssertionError) as error:
                self.failed[repr(error)] += 1
            self.done += 1

    def more(self, count: int = REQUESTS) -> None:
        """Wait for so many further requests."""
        wanted, end = self.done + count, time.monotonic() + SECONDS
        while self.done < wanted and not self.failed:
            assert time.monotonic() < end, "no progress"
            time.sleep(0.01)


def converse(port: int, request: bytes, expected: bytes) -> None:
    """Send a request on a new connection; the answer, which ends the connection, must begin as expected.

    A stopping daemon gives a new connection a second for its request; a client that a busy machine made later than that
    may be cut off.
    """
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        connected, answer = time.monotonic(), b""
        late = True
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            late = time.monotonic() - connected > PROMPT
            while data := connection.recv(65_536):
                answer += data
        except OSError:
            if time.monotonic() - connected < PROMPT or not late:
                raise
    assert late or answer.startswith(expected), answer


def get(path: str) -> bytes:
    """A request of HTTP."""
    return f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode()


class Services:
    """A tracker, a storage node and a gateway behind nginx, each run by a service manager of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.managers: dict[str, ServiceManager] = {}
        (directory / "secret.key").write_text(f"{KEY}\n")
        (directory / "devices" / "dev1").mkdir(parents=True)

    def configure(self, name: str, **sections: Mapping[str, object]) -> Path:
        """Write a configuration file."""
        path = self.directory / f"{name}.toml"
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{field} = {json.dumps(value)}" for field, value in values.items())]
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self, name: str, component: str, configuration: Path, *arguments: str) -> None:
        """Start a daemon."""
        manager = ServiceManager(self.directory, name, [component, "-c", str(configuration), *arguments])
        self.managers[name] = manager
        manager.start()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Services, none started."""
    made = Services(tmp_path)
    try:
        yield made
    finally:
        for each in made.managers.values():
            each.end()


def describe(tracker: int, node: int) -> None:
    """Tell the tracker of the node."""
    for line in (
        f"create_domain domain={DOMAIN}",
        f"create_class domain={DOMAIN}&class=one&mindevcount=1",
        f"create_host host=h1&ip=127.0.0.1&port={node}&status=alive",
        "create_device devid=1&hostname=h1",
    ):
        converse(tracker, f"{line}\r\n".encode(), b"OK")


def test_no_request_is_lost_at_a_restart(services: Services) -> None:
    """Each daemon is restarted while clients connect; they wait for the new process, and none is refused or cut off."""
    tracker, node, gateway = free_ports(3)
    configuration = services.configure(
        "tawara",
        tracker={"listen": f"127.0.0.1:{tracker}"},
        node={"listen": f"127.0.0.1:{node}", "side_channel": ""},
        gateway={"listen": f"127.0.0.1:{gateway}"},
    )
    services.start("node", "node", configuration)
    services.start("tracker", "tracker", configuration, "--processes=2")
    describe(tracker, node)
    services.start("gateway", "gateway", configuration)
    requests: dict[str, Callable[[], None]] = {
        "tracker": lambda: converse(tracker, b"get_domains\r\n", b"OK"),
        "node": lambda: converse(node, get("/dev1/usage"), b"HTTP/1.1 200"),
        "gateway": lambda: converse(gateway, get(f"/{DOMAIN}/missing"), b"HTTP/1.1 404"),
    }
    for name, request in requests.items():
        with Load(request) as load:
            load.more()
            services.managers[name].restart()
            load.more()
        assert not load.failed, (name, load.failed)
    assert set(services.managers["tracker"].kept) == {"tracker.0", "tracker.1"}


class Balancer:
    """HAProxy in front of two servers, of which it uses those whose /readyz is 200."""

    def __init__(self, directory: Path, mode: str, servers: dict[str, tuple[int, int]]) -> None:
        """`servers`: name -> its port, and that of its monitoring listener."""
        (self.port,) = free_ports(1)
        self._stats = directory / "haproxy.sock"
        lines = [
            *("global", f"  stats socket {self._stats}", "defaults", f"  mode {mode}", "  retries 3"),
            *("  option redispatch", "  timeout connect 5s", "  timeout client 60s", "  timeout server 60s"),
            *("  option httpclose",) * (mode == "http"),
            *("listen service", f"  bind 127.0.0.1:{self.port}", "  option httpchk GET /readyz"),
        ]
        for name, (port, probe) in servers.items():
            lines.append(f"  server {name} 127.0.0.1:{port} check port {probe} inter 100ms fall 2 rise 1")
        configuration = directory / "haproxy.cfg"
        configuration.write_text("\n".join(lines) + "\n")
        program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "bin/setup-tests installs haproxy"
        self._process = subprocess.Popen([program, "-db", "-q", "-f", str(configuration)])

    def wait_for(self, count: int) -> None:
        """Wait until so many servers get requests."""
        end = time.monotonic() + SECONDS
        while self._used() != count:
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    def _used(self) -> int:
        with socket.socket(socket.AF_UNIX) as stats:
            try:
                stats.connect(str(self._stats))
            except OSError:
                return 0
            stats.sendall(b"show stat\n")
            rows = [line.split(",") for line in stats.makefile().read().splitlines()]
        return sum(1 for row in rows if len(row) > 17 and row[1] not in ("FRONTEND", "BACKEND") and row[17] == "UP")

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def balancer(directory: Path, mode: str, servers: dict[str, tuple[int, int]]) -> Iterator[Balancer]:
    """A balancer until the end of the block, once it uses all servers."""
    made = Balancer(directory, mode, servers)
    try:
        made.wait_for(len(servers))
        yield made
    finally:
        made.end()


@pytest.mark.parametrize(
    "component",
    [
        "tracker",
        pytest.param("gateway", marks=pytest.mark.skipif(not os.environ.get("TAWARA_PROBE_ALL"), reason="make probe")),
    ],
)
def test_no_request_is_lost_behind_a_balancer(services: Services, component: str) -> None:
    """Two daemons are restarted in turn on new sockets; the balancer takes each out before it stops to serve."""
    tracker, node, *ports = free_ports(6)
    servers = {"one": (ports[0], ports[1]), "two": (ports[2], ports[3])}
    if component == "tracker":
        mode, expected, line = "tcp", b"OK", b"get_domains\r\n"
    else:
        mode, expected, line = "http", b"HTTP/1.1 404", get(f"/{DOMAIN}/missing")
        basis = services.configure(
            "basis",
            tracker={"listen": f"127.0.0.1:{tracker}"},
            node={"listen": f"127.0.0.1:{node}", "side_channel": ""},
        )
        services.start("node", "node", basis)
        services.start("tracker", "tracker", basis)
        describe(tracker, node)
    for name, (port, probe) in servers.items():
        configuration = services.configure(
            name,
            monitoring={component: f"127.0.0.1:{probe}", "drain_seconds": 3},
            gateway={"state": f"nginx-{name}"},
        )
        services.start(name, component, configuration, f"--set={component}.listen=127.0.0.1:{port}")
    with (
        balancer(services.directory, mode, servers) as front,
        Load(lambda: converse(front.port, line, expected)) as load,
    ):
        for name in servers:
            front.wait_for(2)
            manager = services.managers[name]
            manager.stop()
            manager.forget()
            manager.start()
        front.wait_for(2)
        load.more()
    assert not load.failed, load.failed
