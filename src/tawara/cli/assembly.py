"""Putting the rooms together: which part needs which, in which order they start, and that they stop in the reverse.

`tawara up` and the daemons (`tawara tracker`, `node`, `gateway`, `workers`) differ only in the rooms that they name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from tawara.cli import first_run
from tawara.cli.configuration import Configuration, address
from tawara.client.nodes import NodeClient
from tawara.gateway.nginx import NginxFront
from tawara.gateway.server import Gateway
from tawara.metadata.bell import Bells
from tawara.metadata.contract import Metadata
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.model.errors import ConfigurationError
from tawara.model.limits import Limits
from tawara.node.devices import Devices
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


@dataclass(frozen=True)
class Running:
    """What runs in this process, and where it answers: room -> ADDRESS:PORT."""

    configuration: Configuration
    directory: Path
    addresses: dict[str, str]
    view: ClusterView
    metadata: Metadata


def open_metadata(configuration: Configuration, directory: Path) -> Metadata:
    """The database that the configuration names; a SQLite file is made when it is not there."""
    url = urlsplit(configuration.store.database)
    if url.scheme != "sqlite":
        raise ConfigurationError(
            f"store.database: {url.scheme}: only sqlite:///PATH is known", hint="See docs/design.md."
        )
    return SqliteMetadata.open(directory / url.path.removeprefix("/"))


def _shown(host_and_port: tuple[str, int]) -> str:
    host, port = host_and_port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@asynccontextmanager
async def running(
    configuration: Configuration, directory: Path, rooms: Collection[Room], *, one_machine: bool = False
) -> AsyncIterator[Running]:
    """Start `rooms` and stop them at the end. With `one_machine` the database is told of this machine's node."""
    limits = replace(Limits(), connections=configuration.tracker.connections)
    addresses: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        node = None
        if Room.NODE in rooms:
            node = await _start_node(stack, configuration, directory, limits, addresses)

        metadata = open_metadata(configuration, directory)
        stack.push_async_callback(metadata.close)
        if one_machine and node is not None:
            ip, port = node.http_address
            await first_run.describe_machine(metadata, ip=configuration.node.advertise or ip, port=port)

        nodes = await stack.enter_async_context(NodeClient())
        view = ClusterView(
            metadata,
            min_free_mb=configuration.store.min_free_mb,
            default_mindevcount=configuration.store.mindevcount,
        )
        await view.refresh()
        bells = Bells()

        monitor = Monitor(view, metadata, nodes)
        await _start(stack, monitor)
        if Room.TRACKER in rooms:
            listen = address(configuration.tracker.listen, "tracker.listen")
            tracker = TrackerServer(metadata, view, nodes, bells, address=listen, limits=limits)
            await _start(stack, tracker)
            addresses["tracker"] = _shown(tracker.address)
        if Room.WORKERS in rooms:
            await _start(stack, Workers(metadata, view, nodes, bells))
        if Room.GATEWAY in rooms:
            ...
        yield Running(configuration, directory, addresses, view, metadata)
