"""Starts components in the order of their dependencies, and stops them in reverse.

`tawara up` and the daemons (`tawara tracker`, `node`, `gateway`, `workers`) differ only in the components that they
start. A component is imported when it is needed: a tracker does not load the modules of the others.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from tawara.cli import first_key, first_run
from tawara.cli.configuration import Configuration, address, advertised, applications, cache
from tawara.cli.first_key import FirstKey
from tawara.cli.processes import share
from tawara.cli.service_manager import SocketKeeper
from tawara.cli.waiting import until_available
from tawara.gateway.process import GatewayProcess
from tawara.instruments import RequestMeter
from tawara.listening import take
from tawara.metadata import clock, uploads
from tawara.metadata.contract import Metadata
from tawara.metadata.fid_locks import FidLocks, open_locks
from tawara.metadata.open import open_metadata
from tawara.metadata.server import ServerLimits
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.errors import ConfigurationError
from tawara.model.limits import Limits
from tawara.model.liveness import LivenessRules
from tawara.model.trusted_peers import Network, parse_networks
from tawara.monitoring.components import MonitoredComponents
from tawara.monitoring.health_recorder import HealthRecorder
from tawara.nodes.client import NodeClient
from tawara.nodes.signing import RequestSigner
from tawara.store.access_keys import AccessKeys
from tawara.store.key_file import KeyFile
from tawara.workers.monitor import Monitor

if TYPE_CHECKING:
    from tawara.disks.devices import Devices
    from tawara.gateway.certificates import TlsFiles
    from tawara.gateway.dav.server import DavServer
    from tawara.gateway.nginx import NginxFront
    from tawara.gateway.protocol_listener import FurtherProtocol
    from tawara.gateway.s3.server import S3Server
    from tawara.gateway.server import Gateway
    from tawara.monitoring.server import ProcessGroup
    from tawara.node.server import StorageNode
    from tawara.node.signatures import SignatureCheck
    from tawara.tracker.server import TrackerServer
    from tawara.workers.service import Workers

TRACKER, NODE, SIDE_CHANNEL, GATEWAY, S3, WEBDAV = "tracker", "storage node", "side channel", "gateway", "S3", "WebDAV"
MONITORING = "monitoring"
"""Names of the listeners."""


class Component(StrEnum):
    """A component of the store that can run as a process of its own."""

    TRACKER = "tracker"
    NODE = "node"
    GATEWAY = "gateway"
    WORKERS = "workers"


_LISTENERS = {Component.TRACKER: 1, Component.NODE: 2, Component.GATEWAY: 1}


def _listeners(configuration: Configuration, component: Component) -> int:
    """Return the number of listeners of a component; all listeners of a process share its open files."""
    further = len(_protocols(configuration)) if component is Component.GATEWAY else 0
    return _LISTENERS.get(component, 0) + further


class Startable(Protocol):
    """A component that can be started and stopped."""

    async def start(self) -> None:
        """Start. Raises TawaraError if that fails."""
        ...

    async def stop(self) -> None:
        """Stop, within a few seconds."""
        ...


@dataclass(frozen=True)
class Running:
    """The components of this process, and their addresses."""

    configuration: Configuration
    directory: Path
    addresses: dict[str, str] = field(default_factory=dict)
    """Listener -> ADDRESS:PORT, in the order of starting."""
    first_keys: list[FirstKey] = field(default_factory=list)
    """The access key of a new store, if it is in its file."""
    monitored: MonitoredComponents = field(default_factory=MonitoredComponents)

    async def drain(self, hurry: asyncio.Event) -> None:
        """Report not ready, and serve for `monitoring.drain_seconds` more, or until `hurry` is set."""
        self.monitored.readiness.stopping = True
        if self.monitored.node is not None:
            self.monitored.node.drain()
        seconds = self.configuration.monitoring.drain_seconds
        if seconds:
            with suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), seconds)

    def name_addresses(self, listening: Mapping[str, socket.socket]) -> None:
        """Add the addresses on which other processes listen."""
        self.addresses.update({part: _shown(each.getsockname()[:2]) for part, each in listening.items()})


def take_listeners(
    configuration: Configuration, directory: Path, component: Component, keeper: SocketKeeper
) -> dict[str, socket.socket]:
    """Return the sockets of all listeners of `component`, from `keeper`. Raises PortTaken, ConfigurationError."""
    wanted = wanted_addresses(configuration, component)
    if component is Component.GATEWAY:
        if (front := front_nginx(configuration, directory)) is not None:
            front.take_directory()  # ends an earlier nginx, which may hold the port
            front.release_directory()
        gateway = address(configuration.gateway.listen, "gateway.listen")
        wanted = {GATEWAY: gateway, **_protocols(configuration)}
    return {part: keeper.take(part, 0, place) for part, place in wanted.items()}


def import_component(component: Component) -> None:
    """Import the modules of `component`, so that processes forked later share their memory."""
    name = "service" if component is Component.WORKERS else "server"
    importlib.import_module(f"tawara.{component}.{name}")


def wanted_addresses(configuration: Configuration, component: Component) -> dict[str, tuple[str, int]]:
    """Configured addresses of those listeners of `component` that can share a port."""
    match component:
        case Component.TRACKER:
            return {TRACKER: address(configuration.tracker.listen, "tracker.listen")}
        case Component.NODE:
            listeners = {
                NODE: ("node.listen", configuration.node.listen),
                SIDE_CHANNEL: ("node.side_channel", configuration.node.side_channel),
            }
            return {part: address(text, name) for part, (name, text) in listeners.items() if text}
        case _:
            return {}


def share_gateway(
    configuration: Configuration, directory: Path, count: int, keeper: SocketKeeper | None = None
) -> Sequence[Mapping[str, socket.socket]]:
    """Bind the address of a gateway with `count` processes; return the sockets of each process.

    Behind nginx there is one process more, the first, which runs nginx and has the only sockets of the ports. Without
    nginx the processes share the ports. `keeper` may have the sockets. Raises PortTaken, ConfigurationError.
    """
    wanted = {GATEWAY: address(configuration.gateway.listen, "gateway.listen"), **_protocols(configuration)}
    front = front_nginx(configuration, directory)
    if front is None:
        return share(wanted, count, keeper)
    front.take_directory()  # ends an earlier nginx, which may hold the ports
    front.release_directory()
    taken = {
        part: take(each, f"the {part}") if keeper is None else keeper.take(part, 0, each)
        for part, each in wanted.items()
    }
    return [taken, *({} for _ in range(count))]


def _protocols(configuration: Configuration) -> dict[str, tuple[str, int]]:
    """Return the addresses of the gateway's further protocols that are served."""
    wanted = {S3: ("s3.listen", configuration.s3.listen), WEBDAV: ("dav.listen", configuration.dav.listen)}
    return {protocol: address(text, name) for protocol, (name, text) in wanted.items() if text}


def monitoring_address(configuration: Configuration, component: Component) -> tuple[str, int] | None:
    """Return the address of the monitoring listener of `component`, None without one. Raises ConfigurationError."""
    text = getattr(configuration.monitoring, component)
    return address(text, f"monitoring.{component}") if text else None


def without_drain(configuration: Configuration) -> Configuration:
    """Return the configuration of a process that gets its requests from a process that has drained."""
    change = msgspec.structs.replace
    return change(configuration, monitoring=change(configuration.monitoring, drain_seconds=0))


def share_monitoring(
    configuration: Configuration,
    component: Component,
    shares: Sequence[Mapping[str, socket.socket]],
    *,
    only_first: bool = False,
) -> tuple[Sequence[Mapping[str, socket.socket]], Sequence[ProcessGroup | None]]:
    """Add a monitoring socket to the sockets of each process, if configured; return also how they find each other.

    `only_first`: only process 0 listens, which decides whether requests arrive; it binds its address itself.
    Raises PortTaken, ConfigurationError.
    """
    wanted = monitoring_address(configuration, component)
    if wanted is None:
        return shares, [None] * len(shares)
    from tawara.monitoring.server import ProcessGroup

    inner = []
    for _ in shares:
        each = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        each.bind("")  # the kernel chooses an abstract name (unix(7))
        each.listen()
        inner.append(each)
    names = [each.getsockname() for each in inner]
    groups = [ProcessGroup(number, each, names) for number, each in enumerate(inner)]
    if only_first:
        return shares, groups
    listening = share({MONITORING: wanted}, len(shares))
    return [{**one, **more} for one, more in zip(shares, listening, strict=True)], groups


def gateway_process(configuration: Configuration, number: int) -> GatewayProcess | None:
    """Return the part of process `number` of several, None without nginx, where the processes do not differ."""
    gateway = configuration.gateway
    return None if gateway.nginx == "off" else GatewayProcess(number, gateway.processes)


@asynccontextmanager
async def running(
    configuration: Configuration,
    directory: Path,
    components: Collection[Component],
    *,
    one_machine: bool = False,
    listening: Mapping[str, socket.socket] | None = None,
    process: GatewayProcess | None = None,
    group: ProcessGroup | None = None,
) -> AsyncIterator[Running]:
    """Start `components`, wait until each answers, and stop them at the end.

    With `one_machine` this machine's storage node is recorded in the database. A listener in `listening` uses that
    socket instead of binding its address. `process`: the part of this process in a gateway with several. `group`: the
    processes that share the monitoring listener. Raises TawaraError.
    """
    sockets = listening or {}
    limits = replace(
        Limits(),
        connections=configuration.tracker.connections,
        tracker_idle=float(configuration.tracker.idle),
        open_files_share=Limits().open_files_share
        / max(1, sum(_listeners(configuration, component) for component in components)),
    )
    store = Running(configuration, directory)
    async with AsyncExitStack() as stack:
        await _start_monitoring(stack, store, components, sockets, group)
        node = None
        if one_machine and configuration.node.require_signatures != "none" and not configuration.store.sign_urls:
            raise ConfigurationError("node.require_signatures works with store.sign_urls = true only")
        if Component.NODE in components:
            node = _node(configuration, directory, limits, sockets)
            await _start(stack, node)
            store.monitored.add_node(node)
            if configuration.node.listen:
                store.addresses[NODE] = _shown(node.http_address)
            elif one_machine:
                raise ConfigurationError('node.listen = "" works with `tawara node` only')
            if configuration.node.side_channel:
                store.addresses[SIDE_CHANNEL] = _shown(node.side_address)
        if set(components) != {Component.NODE}:
            await _start_with_database(
                stack, store, components, limits, sockets, node if one_machine else None, process
            )
        store.monitored.readiness.started = True
        yield store


async def _start_monitoring(
    stack: AsyncExitStack,
    store: Running,
    components: Collection[Component],
    sockets: Mapping[str, socket.socket],
    group: ProcessGroup | None,
) -> None:
    """Start the monitoring listener, if one is configured: first, so that probes are answered during the start."""
    wanted: list[tuple[str, int] | socket.socket] = []
    if MONITORING in sockets:
        wanted = [sockets[MONITORING]]
    elif group is None or group.number == 0:
        found = [monitoring_address(store.configuration, each) for each in components]
        wanted = [each for each in dict.fromkeys(found) if each is not None]
    if not wanted and group is None:
        return
    from tawara.monitoring.server import MonitoringServer

    server = MonitoringServer(store.monitored, wanted, group)
    await _start(stack, server)
    if wanted:
        store.addresses[MONITORING] = ", ".join(map(_shown, server.addresses))


def _node(
    configuration: Configuration, directory: Path, limits: Limits, sockets: Mapping[str, socket.socket]
) -> StorageNode:
    from tawara.node.server import StorageNode

    wanted = wanted_addresses(configuration, Component.NODE)
    return StorageNode(
        directory / configuration.node.devices,
        http=sockets.get(NODE) or wanted.get(NODE),
        side_channel=sockets.get(SIDE_CHANNEL) or wanted.get(SIDE_CHANNEL),
        limits=limits,
        immutable=configuration.node.refuse_other_content,
        signatures=_signature_check(configuration, directory),
    )


def _signature_check(configuration: Configuration, directory: Path) -> SignatureCheck | None:
    """Return what checks the signatures of requests to the storage node. Raises ConfigurationError."""
    required = configuration.node.require_signatures
    if required == "none":
        return None
    from tawara.node.signatures import SignatureCheck

    key_file = KeyFile(directory / configuration.store.keys_file)
    key_file.load()
    return SignatureCheck(key_file.keys, reads=required == "all", wall=time.time)


def make_signer(configuration: Configuration, directory: Path) -> RequestSigner | None:
    """Return what signs requests to storage nodes, None if they are not signed. Raises ConfigurationError."""
    if not configuration.store.sign_urls:
        return None
    return open_signer(directory / configuration.store.keys_file, configuration.store.signed_seconds)


def open_signer(path: Path, client_seconds: int = 0) -> RequestSigner:
    """Return what signs with the key file at `path`; `client_seconds`: see RequestSigner. Raises ConfigurationError."""
    key_file = KeyFile(path)
    key_file.load()
    return RequestSigner(key_file.keys, wall=time.time, client_seconds=client_seconds)


@dataclass(frozen=True)
class _Shared:
    """Objects shared by the components that use the database."""

    metadata: Metadata
    view: ClusterView
    nodes: NodeClient
    signer: RequestSigner | None
    wakeups: Wakeups
    limits: Limits
    side_channel_port: int | None


async def _start_with_database(
    stack: AsyncExitStack,
    store: Running,
    components: Collection[Component],
    limits: Limits,
    sockets: Mapping[str, socket.socket],
    own_node: StorageNode | None,
    process: GatewayProcess | None,
) -> None:
    configuration = store.configuration
    password_file = configuration.store.password_file
    metadata = await until_available(
        lambda: open_metadata(
            database_url(configuration, store.directory),
            password_file=store.directory / password_file if password_file else None,
            pace=_connections(configuration, process),
        )
    )
    stack.push_async_callback(metadata.close)
    store.monitored.add_database(metadata)
    await until_available(lambda: clock.check(metadata))
    await until_available(lambda: metadata.write(uploads.count_beyond_files))
    if own_node is not None:
        _, port = own_node.http_address
        describe = functools.partial(first_run.describe_machine, ip=advertised(configuration.node), port=port)
        await until_available(lambda: describe(metadata))
        if Component.GATEWAY in components and _protocols(configuration):
            keys = KeyFile(store.directory / configuration.store.keys_file)
            made = await until_available(lambda: first_key.prepare(metadata, store.directory, keys))
            store.first_keys.extend([made] if made is not None else [])

    signer = make_signer(configuration, store.directory)
    nodes = await stack.enter_async_context(NodeClient(signer=signer))
    view = ClusterView(
        metadata,
        min_free_mb=configuration.store.min_free_mb,
        default_mindevcount=configuration.store.mindevcount,
        rules=_rules(configuration),
    )
    only_nginx = set(components) == {Component.GATEWAY} and process is not None and process.number == 0
    await until_available(view.refresh)
    _, port = address(configuration.node.side_channel or ":0", "node.side_channel")
    shared = _Shared(metadata, view, nodes, signer, Wakeups(), limits, port or None)
    if not only_nginx:
        await _start(stack, Monitor(view, metadata, nodes, side_channel_port=shared.side_channel_port))
        await view.wait_observed()
    if Component.WORKERS in components:
        locks = _locks(configuration, metadata)
        if locks is not None:
            stack.push_async_callback(locks.close)
        alone = set(components) == set(Component) and locks is None
        workers = _workers(configuration, shared, alone=alone, locks=locks)
        await _start(stack, workers)
        store.monitored.workers = workers
    if Component.TRACKER in components:
        tracker = _tracker(configuration, shared, sockets)
        await _start(stack, tracker)
        store.addresses[TRACKER] = _shown(tracker.address)
        store.monitored.tracker = tracker
        await _start(stack, HealthRecorder(metadata, tracker.address))
    if Component.GATEWAY in components:
        access_keys = AccessKeys(metadata, KeyFile(store.directory / configuration.store.keys_file))
        await until_available(access_keys.check)
        protocols: dict[str, S3Server | DavServer] = {}
        for protocol, listen in _protocols(configuration).items():
            wanted, make = sockets.get(protocol) or listen, _s3 if protocol == S3 else _dav
            protocols[protocol] = make(store, shared, access_keys, wanted)
        gateway = _gateway(store, shared, access_keys, own_node, sockets, process, list(protocols.values()))
        await _start(stack, gateway)
        if not only_nginx:
            store.monitored.add_gateway("http", lambda: gateway.meter, view)
            for protocol, server in protocols.items():
                store.monitored.add_gateway(protocol.lower(), _meter_of(server), view)
        if process is None or process.number == 0:
            store.addresses[GATEWAY] = _shown(gateway.address)
            store.addresses.update({protocol: _shown(server.address) for protocol, server in protocols.items()})


def _meter_of(server: S3Server | DavServer) -> Callable[[], RequestMeter]:
    return lambda: server.meter


def _connections(configuration: Configuration, process: GatewayProcess | None) -> ServerLimits:
    """Return the database connections of this process: several processes of a gateway share those of one."""
    readers, writers = configuration.store.read_connections, configuration.store.write_connections
    sharing = process.count if process is not None and process.number else 1
    return ServerLimits(readers=max(1, readers // sharing), writers=max(1, writers // sharing))


def _locks(configuration: Configuration, metadata: Metadata) -> FidLocks | None:
    """Return the locks shared with a mogilefsd on the same database; None without one."""
    hosts = _hosts_of_mogilefsd(configuration)
    return open_locks(metadata, hosts) if hosts else None


def _hosts_of_mogilefsd(configuration: Configuration) -> list[str]:
    """Return the hosts on which a mogilefsd uses the same database."""
    return [each.strip() for each in configuration.store.beside_mogilefsd.split(",") if each.strip()]


def _workers(configuration: Configuration, shared: _Shared, *, alone: bool, locks: FidLocks | None) -> Workers:
    from tawara.workers.service import Workers, WorkersOptions

    return Workers(
        shared.metadata,
        shared.view,
        shared.nodes,
        shared.wakeups,
        WorkersOptions(
            replicate=configuration.workers.replicate,
            delete=configuration.workers.delete,
            side_channel_port=shared.side_channel_port,
        ),
        alone=alone,
        locks=locks,
    )


def _tracker(configuration: Configuration, shared: _Shared, sockets: Mapping[str, socket.socket]) -> TrackerServer:
    from tawara.tracker.server import TrackerServer

    return TrackerServer(
        shared.metadata,
        shared.view,
        shared.nodes,
        shared.wakeups,
        address=sockets.get(TRACKER) or wanted_addresses(configuration, Component.TRACKER)[TRACKER],
        limits=shared.limits,
        side_channel_port=shared.side_channel_port,
        signer=shared.signer,
        beside_mogilefsd=bool(_hosts_of_mogilefsd(configuration)),
    )


def _gateway(
    store: Running,
    shared: _Shared,
    access_keys: AccessKeys,
    own_node: StorageNode | None,
    sockets: Mapping[str, socket.socket],
    process: GatewayProcess | None,
    protocols: Sequence[FurtherProtocol],
) -> Gateway:
    from tawara.gateway.server import Gateway

    configuration = store.configuration.gateway
    return Gateway(
        shared.metadata,
        shared.view,
        shared.nodes,
        shared.wakeups,
        listen=sockets.get(GATEWAY) or address(configuration.listen, "gateway.listen"),
        secret=_secret(store.directory / configuration.key_file),
        access_keys=access_keys,
        public_reads=configuration.public_reads,
        reproxy=configuration.reproxy,
        local_devices=own_node.devices if own_node is not None else _devices_to_read(store),
        local_reads_only=own_node is None,
        nginx=front_nginx(store.configuration, store.directory),
        limits=shared.limits,
        tls=_tls(store.configuration, store.directory),
        process=process,
        applications=applications(store.configuration),
        balancers=address(configuration.balancers, "gateway.balancers") if configuration.balancers else None,
        cache=cache(store.configuration, _peer_secret(store.directory / store.configuration.store.keys_file)),
        protocols=protocols,
    )


def _peer_secret(path: Path) -> str:
    """Return the secret by which gateways of one store read each other's caches; empty without a key file."""
    keys = KeyFile(path).keys()
    return keys[0].derive("gateway caches").hex() if keys else ""


def _tls(configuration: Configuration, directory: Path) -> TlsFiles | None:
    from tawara.gateway.certificates import TlsFiles

    gateway = configuration.gateway
    if not gateway.tls_certificate and not gateway.tls_key:
        return None
    if not gateway.tls_certificate or not gateway.tls_key:
        raise ConfigurationError(
            "TLS needs both gateway.tls_certificate and gateway.tls_key", hint='Set both, or both to "".'
        )
    return TlsFiles(directory / gateway.tls_certificate, directory / gateway.tls_key)


def _trusted(configuration: Configuration) -> tuple[Network, ...]:
    """Return the front ends whose X-Forwarded-Host counts. Raises ConfigurationError."""
    try:
        return parse_networks(configuration.gateway.trusted_proxies)
    except ValueError as error:
        raise ConfigurationError(
            f"gateway.trusted_proxies: {error}", hint="Give addresses and networks, such as 10.0.0.7, fd00::/8."
        ) from None


def _s3(store: Running, shared: _Shared, access_keys: AccessKeys, listen: tuple[str, int] | socket.socket) -> S3Server:
    from tawara.gateway.s3.server import S3Server

    configuration = store.configuration
    return S3Server(
        shared.metadata,
        shared.view,
        shared.nodes,
        shared.wakeups,
        listen=listen,
        access_keys=access_keys,
        region=configuration.s3.region,
        trusted=_trusted(configuration),
        hosts=[each.strip() for each in configuration.s3.hosts.split(",") if each.strip()],
        limits=shared.limits,
    )


def _dav(
    store: Running, shared: _Shared, access_keys: AccessKeys, listen: tuple[str, int] | socket.socket
) -> DavServer:
    from tawara.gateway.dav.server import DavServer

    return DavServer(
        shared.metadata,
        shared.view,
        shared.nodes,
        shared.wakeups,
        listen=listen,
        secret=_secret(store.directory / store.configuration.gateway.key_file),
        access_keys=access_keys,
        limits=shared.limits,
    )


def database_url(configuration: Configuration, directory: Path) -> str:
    """Return the database's URL; a relative SQLite path is resolved from `directory`."""
    scheme, _, path = configuration.store.database.partition(":")
    if scheme == "sqlite" and not path.startswith("/"):
        return f"sqlite:{directory.absolute() / path}"
    return configuration.store.database


def _rules(configuration: Configuration) -> LivenessRules:
    """Return when devices are presumed dead: never beside mogilefsd, which would delete the new replicas."""
    care = configuration.care
    after = 0 if configuration.store.beside_mogilefsd else care.presume_dead
    return LivenessRules(after, care.presume_dead_hosts, care.presume_dead_bytes)


def front_nginx(configuration: Configuration, directory: Path) -> NginxFront | None:
    """Return the nginx in front of the gateway, None without one."""
    from tawara.gateway import nginx

    gateway = configuration.gateway
    if gateway.nginx == "off":
        return None
    return nginx.NginxFront(
        directory / gateway.state,
        spool=directory / gateway.spool if gateway.spool else None,
        binary=nginx.system() if gateway.nginx == "system" else None,
    )


def _devices_to_read(store: Running) -> Devices | None:
    """Return this machine's devices for a gateway process without a storage node; None if the directory is missing."""
    from tawara.disks.devices import Devices

    docroot = store.directory / store.configuration.node.devices
    return Devices(docroot, make_identities=False) if docroot.is_dir() else None


def _secret(path: Path) -> str:
    try:
        secret = path.read_text("utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"The secret key {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"The secret key {path} is not text (UTF-8)") from None
    if len(secret) < 16:
        raise ConfigurationError(f"The secret key in {path} is shorter than 16 characters")
    return secret


async def _start(stack: AsyncExitStack, component: Startable) -> None:
    await component.start()
    stack.push_async_callback(component.stop)


def _shown(host_and_port: tuple[str, int]) -> str:
    host, port = host_and_port
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
