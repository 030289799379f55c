"""Putting the rooms together: which part needs which, in which order they start, and that they stop in the reverse.

`tawara up` and the daemons (`tawara tracker`, `node`, `gateway`, `workers`) differ only in the rooms that they name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from tawara.cli import first_run
from tawara.cli.configuration import Configuration, address
from tawara.client.nodes import NodeClient
from tawara.gateway import nginx
from tawara.gateway.server import Gateway
from tawara.metadata.bell import Bells
from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.model.errors import ConfigurationError
from tawara.model.limits import Limits
from tawara.node.server import StorageNode
from tawara.tracker.server import TrackerServer
from tawara.workers.monitor import Monitor
from tawara.workers.service import Workers


class Room(StrEnum):
    """A part of the store that can run by itself."""

    TRACKER = "tracker"
    NODE = "node"
    GATEWAY = "gateway"
    WORKERS = "workers"


class Startable(Protocol):
    """What every room can do."""

    async def start(self) -> None:
        """Begin; raises TawaraError when that cannot be."""
        ...

    async def stop(self) -> None:
        """End, within a few seconds."""
        ...


@dataclass(frozen=True)
class Running:
    """What runs in this process, and where it answers."""

    configuration: Configuration
    directory: Path
    addresses: dict[str, str] = field(default_factory=dict)
    """Part -> ADDRESS:PORT, in the order of starting."""


@asynccontextmanager
async def running(
    configuration: Configuration, directory: Path, rooms: Collection[Room], *, one_machine: bool = False
) -> AsyncIterator[Running]:
    """Start `rooms`, wait until each answers, and stop them at the end.

    With `one_machine` the database is told of this machine's storage node. Raises TawaraError.
    """
    limits = replace(Limits(), connections=configuration.tracker.connections)
    store = Running(configuration, directory)
    async with AsyncExitStack() as stack:
        node = None
        if Room.NODE in rooms:
            node = _node(configuration, directory, limits)
            await _start(stack, node)
            store.addresses["storage node"] = _shown(node.http_address)
            if configuration.node.side_channel:
                store.addresses["side channel"] = _shown(node.side_address)
        if set(rooms) != {Room.NODE}:
            await _start_what_knows_names(stack, store, rooms, limits, node if one_machine else None)
        yield store


def _node(configuration: Configuration, directory: Path, limits: Limits) -> StorageNode:
    side_channel = configuration.node.side_channel
    return StorageNode(
        directory / configuration.node.devices,
        http=address(configuration.node.listen, "node.listen"),
        side_channel=address(side_channel, "node.side_channel") if side_channel else None,
        limits=limits,
    )


async def _start_what_knows_names(
    stack: AsyncExitStack, store: Running, rooms: Collection[Room], limits: Limits, own_node: StorageNode | None
) -> None:
    configuration = store.configuration
    metadata = await open_metadata(_database(configuration, store.directory))
    stack.push_async_callback(metadata.close)
    if own_node is not None:
        ip, port = own_node.http_address
        await first_run.describe_machine(metadata, ip=configuration.node.advertise or ip, port=port)

    nodes = await stack.enter_async_context(NodeClient())
    view = ClusterView(
        metadata, min_free_mb=configuration.store.min_free_mb, default_mindevcount=configuration.store.mindevcount
    )
    await view.refresh()
    bells = Bells()
    _, side_channel_port = address(configuration.node.side_channel or ":0", "node.side_channel")
    await _start(stack, Monitor(view, metadata, nodes, side_channel_port=side_channel_port or None))
    await view.wait_observed()

    if Room.WORKERS in rooms:
        care = configuration.workers
        await _start(
            stack,
            Workers(
                metadata,
                view,
                nodes,
                bells,
                replicate=care.replicate,
                delete=care.delete,
                alone=set(rooms) == set(Room),
            ),
        )
    if Room.TRACKER in rooms:
        tracker = TrackerServer(
            metadata,
            view,
            nodes,
            bells,
            address=address(configuration.tracker.listen, "tracker.listen"),
            limits=limits,
            side_channel_port=side_channel_port or None,
        )
        await _start(stack, tracker)
        store.addresses["tracker"] = _shown(tracker.address)
    if Room.GATEWAY in rooms:
        gateway = Gateway(
            metadata,
            view,
            nodes,
            bells,
            listen=address(configuration.gateway.listen, "gateway.listen"),
            secret=_secret(store.directory / configuration.gateway.key_file),
            public_reads=configuration.gateway.public_reads,
            local_devices=own_node.devices if own_node is not None else None,
            nginx=_front(configuration, store.directory),
            limits=limits,
        )
        await _start(stack, gateway)
        store.addresses["gateway"] = _shown(gateway.address)


def _database(configuration: Configuration, directory: Path) -> str:
    """The URL, with a relative SQLite path taken from the configuration's directory."""
    scheme, _, path = configuration.store.database.partition(":")
    if scheme == "sqlite" and not path.startswith("/"):
        return f"sqlite://{directory.absolute() / path}"
    return configuration.store.database


def _front(configuration: Configuration, directory: Path) -> nginx.NginxFront | None:
    match configuration.gateway.nginx:
        case "off":
            return None
        case "system":
            return nginx.NginxFront(directory / "nginx", binary=nginx.system())
        case "bundled":
            return nginx.NginxFront(directory / "nginx")


def _secret(path: Path) -> str:
    try:
        secret = path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"The secret key {path} cannot be read: {error.strerror}") from error
    if len(secret) < 16:
        raise ConfigurationError(f"The secret key in {path} is shorter than 16 characters")
    return secret


async def _start(stack: AsyncExitStack, room: Startable) -> None:
    await room.start()
    stack.push_async_callback(room.stop)


def _shown(host_and_port: tuple[str, int]) -> str:
    host, port = host_and_port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
