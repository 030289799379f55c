"""`tawara tracker`, `node`, `workers`, `gateway`: one component of the store, in one process or several."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter, validators

from tawara.cli import log, readiness
from tawara.cli.assembly import (
    NODE,
    Component,
    Running,
    gateway_process,
    import_component,
    running,
    share_gateway,
    share_monitoring,
    take_listeners,
    wanted_addresses,
    without_drain,
)
from tawara.cli.configuration import FILE, Configuration, advertised, load
from tawara.cli.foreground import raise_descriptors, run_until_signal
from tawara.cli.processes import Family, Listening, Ready, share
from tawara.cli.reloading import Reloader, survive
from tawara.cli.service_manager import SocketKeeper, is_managed, take_stored
from tawara.gateway.process import GatewayProcess
from tawara.model.addresses import is_wildcard
from tawara.model.errors import ConfigurationError

if TYPE_CHECKING:
    from tawara.monitoring.server import ProcessGroup


@Parameter(name="*")
@dataclass(frozen=True)
class DaemonOptions:
    """The options that all daemons share."""

    config: Annotated[
        Path,
        Parameter(name=["--config", "-c"], help="Configuration file; relative paths in it start from its directory."),
    ] = Path(FILE)
    settings: Annotated[
        tuple[str, ...],
        Parameter(name="--set", negative="", help="A setting for this run, section.name=value; may be repeated."),
    ] = ()
    json: Annotated[
        bool,
        Parameter(
            name="--json",
            negative="",
            help="Print JSON, one object a line; the first when the daemon is ready.",
        ),
    ] = False


Processes = Annotated[
    int,
    Parameter(
        show_default=True,
        validator=validators.Number(gte=1, lte=64),
        help="Number of processes that share the work and the ports; one that dies is restarted.",
    ),
]
DEFAULT = DaemonOptions()

_NAMES = {
    Component.TRACKER: "a tracker",
    Component.NODE: "a storage node",
    Component.WORKERS: "workers",
    Component.GATEWAY: "a gateway",
}


def _run(options: DaemonOptions, component: Component, processes: int = 1) -> int:
    config, json = options.config, options.json
    survive()
    if not config.exists():
        raise ConfigurationError(f"Not found: configuration {config}", hint="`tawara up DIR` creates one.")

    def read() -> Configuration:
        configuration = load(config, settings=options.settings)
        change = msgspec.structs.replace
        return change(configuration, log=change(configuration.log, format="json")) if json else configuration

    configuration = read()
    if configuration.node.advertise:
        advertised(configuration.node)
    log.configure(configuration.log)
    reload = Reloader(read, configuration).reload
    directory = config.absolute().parent
    if component is Component.GATEWAY:
        processes = processes or configuration.gateway.processes
        gateway = msgspec.structs.replace(configuration.gateway, processes=processes)
        configuration = msgspec.structs.replace(configuration, gateway=gateway)
    keeper = SocketKeeper(take_stored()) if is_managed() else None
    if processes == 1:
        listening = {} if keeper is None else take_listeners(configuration, directory, component, keeper)
        if keeper is not None:
            keeper.drop_unused()
        ready = functools.partial(_report_ready, component=component, json=json)
        run_until_signal(_served(configuration, directory, component, listening, ready), reload)
        return 0
    return _run_many(configuration, directory, component, reload, keeper, json=json, processes=processes)


def _report_ready(store: Running, component: Component, *, json: bool, processes: int = 1) -> None:
    """Report that the daemon is ready, and for a storage node the command that makes it known to trackers."""
    node = store.configuration.node
    if component is Component.NODE and node.listen:
        host, _, port = store.addresses[NODE].rpartition(":")
        known = node.advertise or ("ADDRESS" if is_wildcard(host.strip("[]")) else host.strip("[]"))
        note = f"To make it known to trackers: tawara host add NAME --ip {known} --port {port}"
        readiness.say(store, _NAMES[component], note, as_json=json, processes=processes)
    else:
        readiness.say(store, _NAMES[component], as_json=json, processes=processes)


def _run_many(
    configuration: Configuration,
    directory: Path,
    component: Component,
    reload: Callable[[], None],
    keeper: SocketKeeper | None,
    *,
    json: bool,
    processes: int,
) -> int:
    raise_descriptors()
    import_component(component)
    if component is Component.GATEWAY:
        shares = share_gateway(configuration, directory, processes, keeper)
    else:
        shares = share(wanted_addresses(configuration, component), processes, keeper)
    if keeper is not None:
        keeper.drop_unused()
    front = len(shares) > processes  # process 0 runs nginx and decides when the others get no more requests
    shares, groups = share_monitoring(configuration, component, shares, only_first=front)
    store = Running(configuration, directory)
    store.name_addresses(shares[0])

    def serve(number: int, listening: Listening, ready: Ready) -> None:
        process = gateway_process(configuration, number) if component is Component.GATEWAY else None
        own = without_drain(configuration) if front and number else configuration
        served = _served(own, directory, component, listening, lambda _: ready(), process, groups[number])
        run_until_signal(served, reload)

    def announce() -> None:
        _report_ready(store, component, json=json, processes=processes)

    return Family(
        shares,
        serve,
        announce,
        reload,
        first_stops_first=front,
        drain=configuration.monitoring.drain_seconds,
    ).run()


@asynccontextmanager
async def _served(
    configuration: Configuration,
    directory: Path,
    component: Component,
    listening: Listening,
    ready: Callable[[Running], None],
    process: GatewayProcess | None = None,
    group: ProcessGroup | None = None,
) -> AsyncIterator[Running]:
    async with running(
        configuration, directory, [component], listening=listening, process=process, group=group
    ) as store:
        ready(store)
        yield store


def tracker(*, processes: Processes = 1, options: DaemonOptions = DEFAULT) -> int:
    """Run a tracker until Ctrl-C.

    For example:

        tawara tracker -c /etc/tawara/tawara.toml --set tracker.listen=10.0.0.1:7001
    """
    return _run(options, Component.TRACKER, processes)


def node(*, processes: Processes = 1, options: DaemonOptions = DEFAULT) -> int:
    """Run a storage node for the devices of this machine until Ctrl-C.

    For example:

        tawara node --set node.listen=10.0.0.2:7500 --set node.devices=/srv/devices
    """
    return _run(options, Component.NODE, processes)


def workers(*, processes: Processes = 1, options: DaemonOptions = DEFAULT) -> int:
    """Run the workers (replication, deletion, maintenance) until Ctrl-C. Any number of processes may run them.

    For example:

        tawara workers -c /etc/tawara/tawara.toml
    """
    return _run(options, Component.WORKERS, processes)


def gateway(
    *,
    processes: Annotated[
        int | None,
        Parameter(
            validator=validators.Number(gte=1, lte=64),
            help="Number of processes that answer requests; one that dies is restarted. Default: gateway.processes.",
        ),
    ] = None,
    options: DaemonOptions = DEFAULT,
) -> int:
    """Run the HTTP gateway until Ctrl-C, behind nginx unless the configuration says otherwise.

    For example:

        tawara gateway -c /etc/tawara/tawara.toml --set gateway.listen=10.0.0.1:80

        tawara gateway --processes 4
    """
    return _run(options, Component.GATEWAY, processes or 0)
