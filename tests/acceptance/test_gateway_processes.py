"""A gateway with several processes behind one nginx, by itself and in `tawara up`: crashes, stops, shared ports."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.daemons import Daemon, alive
from tests.acceptance.store import Store, free_ports, store

BODY = os.urandom(30_000)


def request(address: str, method: str, path: str, key: str = "", body: bytes | None = None) -> tuple[int, bytes]:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def answering(address: str) -> int:
    """The number of the process that answers a request."""
    status, body = request(address, "GET", "/.tawara/health")
    assert status == 200, body
    number: int = json.loads(body)["process"]
    return number


def until(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def gateway_of(up: Store, directory: Path, *arguments: str) -> tuple[Daemon, str]:
    """A second gateway of a store, not started, and its address."""
    (port,) = free_ports(1)
    listen = f"127.0.0.1:{port}"
    settings = {
        "gateway.listen": listen,
        "gateway.state": str(directory / "state"),
        "store.database": f"sqlite:{up.directory}/tawara.db",
        "node.devices": str(up.directory / "devices"),
        "s3.listen": "",
        "dav.listen": "",
    }
    flags = [f"--set={name}={value}" for name, value in settings.items()]
    command = ["gateway", "-c", str(up.directory / "tawara.toml"), *flags, *arguments]
    return Daemon("gateway", command, directory), listen


def test_a_new_domain(tmp_path: Path) -> None:
    """A domain or class is known to every process of every daemon as soon as the command that creates it has ended."""
    with store(tmp_path / "store", "--no-nginx") as up:
        gateway, listen = gateway_of(up, tmp_path, "--processes", "2")
        gateway.start()
        try:
            assert {answering(listen) for _ in range(20)} == {1, 2}
            for number in range(3):
                up.run("domain", "add", f"new{number}")
                stored = {request(listen, "PUT", f"/new{number}/{each}", up.key, b"x")[0] for each in range(8)}
                up.run("class", "add", f"new{number}", "photos", "--copies=1")
                stored |= {
                    request(listen, "PUT", f"/new{number}/{each}?class=photos", up.key, b"x")[0]
                    for each in range(8, 16)
                }
                assert stored == {201}
            assert request(listen, "PUT", "/unknown/key", up.key, b"x")[0] == 404
        finally:
            gateway.stop()


def test_crash_and_stop(tmp_path: Path) -> None:
    """A killed process costs no read; it is replaced. A stop lets a running download end, and leaves no process."""
    with store(tmp_path / "store", "--no-nginx") as up:
        gateway, listen = gateway_of(up, tmp_path, "--processes", "2")
        ready = gateway.start()
        try:
            assert ready["processes"] == 2
            for number in range(6):
                assert request(listen, "PUT", f"/files/{number}", up.key, BODY[: number * 5000])[0] == 201
            seen = {answering(listen) for _ in range(20)}
            assert seen == {1, 2}
            victim = gateway.children()[1]
            os.kill(victim, signal.SIGKILL)
            for number in range(60):
                path = f"/files/{number % 6}"
                assert request(listen, "GET", path) == (200, BODY[: number % 6 * 5000])
            until(lambda: {answering(listen) for _ in range(10)} == {1, 2})
            assert victim not in gateway.children() and len(gateway.children()) == 3

            assert request(listen, "PUT", "/files/large", up.key, BODY * 300)[0] == 201
            received: list[int] = []
            with socket.create_connection(("127.0.0.1", int(listen.split(":")[1]))) as slow:
                slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                slow.sendall(b"GET /files/large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                received.append(len(slow.recv(1000)))

                def read_on() -> None:
                    time.sleep(0.5)
                    while piece := slow.recv(1 << 20):
                        received.append(len(piece))

                reading = threading.Thread(target=read_on)
                reading.start()
                front = gateway.children()[0]
                nginx = list(map(int, Path(f"/proc/{front}/task/{front}/children").read_text().split()))
                assert gateway.stop() < 5
                reading.join(10)
            assert sum(received) > len(BODY) * 300
            assert not any(map(alive, nginx))
        finally:
            gateway.end()


def test_the_process_of_nginx_crashes(tmp_path: Path) -> None:
    """nginx ends with the process that runs it; both are replaced, on the same port."""
    with store(tmp_path / "store", "--no-nginx") as up:
        gateway, listen = gateway_of(up, tmp_path, "--processes", "2")
        gateway.start()
        try:
            assert request(listen, "PUT", "/files/k", up.key, BODY)[0] == 201
            os.kill(gateway.children()[0], signal.SIGKILL)

            def back() -> bool:
                try:
                    return request(listen, "GET", "/files/k") == (200, BODY)
                except (OSError, http.client.HTTPException):
                    return False

            until(back)
            gateway.stop()
        finally:
            gateway.end()


@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
def test_up(tmp_path: Path, nginx: bool) -> None:
    """`tawara up` has as many gateway processes as the setting says, with nginx and without."""
    flags = [] if nginx else ["--no-nginx"]
    with store(tmp_path / "store", "--set=gateway.processes=2", *flags) as up:
        assert request(up.gateway, "PUT", "/files/k", up.key, BODY)[0] == 201
        assert request(up.gateway, "GET", "/files/k") == (200, BODY)
        if nginx:
            assert {answering(up.gateway) for _ in range(20)} == {1, 2}
        assert up.stop() < 5
        assert up.processes() == []
