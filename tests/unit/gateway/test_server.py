"""The gateway component: what it starts and stops, with an nginx that only keeps record."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.disks.devices import Devices
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.process import GatewayProcess
from tawara.gateway.server import Gateway
from tawara.model.errors import PortTaken
from tawara.store.writer import FileWriter
from tests.unit.store.fake_store import FakeStore


class _Front:
    """Keeps record of what the gateway asks of nginx."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.calls: list[Any] = []
        self.features = SimpleNamespace(clears_fields=False)

    def take_directory(self) -> None:
        self.calls.append("lock")

    def detect_features(self) -> None:
        self.calls.append("features")

    def open_socket(self, process: int = 0) -> socket.socket:
        self.calls.append(f"socket {process}" if process else "socket")
        return socket.create_server(("127.0.0.1", 0))

    async def start(
        self, public: Mapping[ListenerProtocol, socket.socket], devices: Path | None, *_: object, **named: object
    ) -> None:
        self.calls.append(("start", public[ListenerProtocol.HTTP].getsockname(), devices))
        self.processes = named["processes"]
        if self.fails:
            raise OSError("nginx does not start")

    async def stop(self) -> None:
        self.calls.append("stop")


@pytest.fixture
def gateway() -> Callable[..., Gateway]:
    fake = FakeStore()

    def make(**options: Any) -> Gateway:
        nodes: Any = fake.nodes
        return Gateway(cast("Any", fake.metadata), fake.view, nodes, cast("Any", None), secret="s", **options)

    return make


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_a_gateway_alone_listens_until_it_stops(gateway: Callable[..., Gateway]) -> None:
    """Without nginx the gateway accepts connections itself, and none after it has stopped."""
    one = gateway(listen=("127.0.0.1", 0))
    await one.start()
    address = one.address
    assert _answers(address)
    with pytest.raises(PortTaken, match="the gateway"):
        await gateway(listen=address).start()
    await one.stop()
    assert not _answers(address)


async def test_a_gateway_at_a_path_removes_it(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """A Unix socket exists while the gateway runs, has no host and port, and is removed at its end."""
    path = tmp_path / "socket"
    one = gateway(listen=path)
    await one.start()
    assert path.is_socket()
    with pytest.raises(AssertionError):
        _ = one.address
    await one.stop()
    assert not path.exists()


@pytest.mark.parametrize("read_only", [False, True])
async def test_nginx_is_started_in_front(gateway: Callable[..., Gateway], tmp_path: Path, read_only: bool) -> None:
    """With nginx its directory is locked first, then it gets the public socket and the devices, which are local."""
    (tmp_path / "dev1").mkdir()
    devices = Devices(tmp_path)
    front = _Front()
    one = gateway(listen=("127.0.0.1", 0), nginx=front, local_devices=devices, local_reads_only=read_only)
    await one.start()
    assert one._local is not None
    assert one._local.writeable is not read_only
    assert isinstance(one._writer, FileWriter)
    address = one.address
    assert front.calls == ["lock", "socket", ("start", address, tmp_path)]
    await one.stop()
    assert front.calls[3:] == ["stop"]
    assert not _answers(address)


async def test_processes_behind_one_nginx(gateway: Callable[..., Gateway]) -> None:
    """The first process runs nginx and answers nothing itself; each of the others only answers on its own socket."""
    front, other = _Front(), _Front()
    first = gateway(listen=("127.0.0.1", 0), nginx=front, process=GatewayProcess(0, 2))
    await first.start()
    assert front.calls == ["lock", ("start", first.address, None)]
    assert front.processes == 2
    second = gateway(listen=("127.0.0.1", 0), nginx=other, process=GatewayProcess(2, 2))
    await second.start()
    assert other.calls == ["features", "socket 2"]
    await second.stop()
    await first.stop()


async def test_without_nginx_no_device_is_local(gateway: Callable[..., Gateway], tmp_path: Path) -> None:
    """Without nginx all files are read and written through storage nodes; without devices nginx has none."""
    one = gateway(listen=("127.0.0.1", 0), local_devices=Devices(tmp_path))
    await one.start()
    assert one._local is None
    await one.stop()
    front = _Front()
    one = gateway(listen=("127.0.0.1", 0), nginx=front)
    await one.start()
    assert one._local is None
    assert front.calls[-1][2] is None
    await one.stop()


async def test_a_start_that_fails_leaves_nothing(gateway: Callable[..., Gateway]) -> None:
    """When nginx does not start, the port is released and nginx is stopped."""
    front = _Front(fails=True)
    one = gateway(listen=("127.0.0.1", 0), nginx=front)
    with pytest.raises(OSError, match="does not start"):
        await one.start()
    assert front.calls[-1] == "stop"
    assert not _answers(one.address)
