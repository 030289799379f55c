"""One hanging disk in a complete store: the others, and all components, continue."""

from __future__ import annotations

import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.hanging import hanging
from tests.acceptance.store import STOP_SECONDS, Store, store


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of four devices on one machine."""
    with store(tmp_path_factory.mktemp("hang") / "store") as one:
        yield one


def fetch(one: Store, key: str, body: bytes | None = None, timeout: float = 60) -> bytes:
    """GET, or PUT with a body."""
    request = urllib.request.Request(f"http://{one.gateway}/files/{key}", body, method="PUT" if body else "GET")
    request.add_header("Authorization", f"Bearer {one.key}")
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        read: bytes = answer.read()
        return read


def get_from_node(one: Store, path: str, timeout: float = 60) -> int:
    try:
        with urllib.request.urlopen(f"http://{one.node}{path}", timeout=timeout) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def answers(one: Store) -> None:
    """The tracker, the gateway and the node's other disks respond."""
    host, port = one.tracker.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as tracker:
        tracker.sendall(b"get_domains\r\n")
        assert tracker.recv(1000).startswith(b"OK ")
    with urllib.request.urlopen(f"http://{one.gateway}/.tawara/health", timeout=10) as health:
        assert health.status == 200
    for devid in (2, 3, 4):
        assert get_from_node(one, f"/dev{devid}/usage", 10) == 200


def observed(one: Store) -> dict[str, str]:
    """The tracker's observation of each device."""
    host, port = one.tracker.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as tracker:
        tracker.sendall(b"get_devices\r\n")
        said = tracker.makefile("rb").readline().decode()
    pairs = dict(each.split("=") for each in said[3:].strip().split("&"))
    return {pairs[f"{name}_devid"]: pairs.get(f"{name}_observed_state", "") for name in
            (key.removesuffix("_devid") for key in pairs if key.endswith("_devid"))}  # fmt: skip


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_one_disk_of_four_hangs(up: Store) -> None:
    """All files can be read, new ones stored, and only the hanging disk is observed as unreachable; then it returns."""
    bodies = {f"f{number}": f"body {number}".encode() * 20_000 for number in range(12)}
    for key, body in bodies.items():
        fetch(up, key, body)
    with hanging(up.directory / "devices" / "dev1"):
        stuck = [threading.Thread(target=get_from_node, args=(up, f"/dev1/x{number}")) for number in range(40)]
        for thread in stuck:
            thread.start()
        answers(up)
        for key, body in bodies.items():
            assert fetch(up, key) == body
        for number in range(6):
            fetch(up, f"new{number}", b"new" * 50_000)
        until(lambda: observed(up).get("1") == "unreachable")
        assert set(observed(up).values()) <= {"unreachable", "writeable"}
        assert [state for devid, state in observed(up).items() if devid != "1"] == ["writeable"] * 3
        answers(up)
        fetch(up, "later", b"later")
    for thread in stuck:
        thread.join(30)
        assert not thread.is_alive()
    until(lambda: observed(up).get("1") == "writeable")
    for number in range(6):
        assert fetch(up, f"new{number}") == b"new" * 50_000


def test_a_stop_while_a_disk_hangs(up: Store) -> None:
    """The store stops in time, and starts, while a disk does not respond."""
    with hanging(up.directory / "devices" / "dev2"):
        until(lambda: observed(up).get("2") == "unreachable")
        assert up.process is not None
        up.process.send_signal(signal.SIGINT)
        up.process.wait(2 * STOP_SECONDS)
        up.start()
        answers_but = [devid for devid in (1, 3, 4) if get_from_node(up, f"/dev{devid}/usage", 10) == 200]
        assert answers_but == [1, 3, 4]
    up.stop()
