"""`tawara tracker`, `node`, `workers`, `gateway`: the rooms of the store apart, each in one process or several."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter, validators

from tawara.cli import log, readiness
from tawara.cli.assembly import Room, Running, import_room, running, wanted_addresses
from tawara.cli.configuration import FILE, Configuration, load
from tawara.cli.foreground import raise_descriptors, run_until_signal
from tawara.cli.processes import Family, Listening, Ready, share
from tawara.model.errors import ConfigurationError

Config = Annotated[Path, Parameter(name=["--config", "-c"])]
Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="")]
Processes = Annotated[int, Parameter(show_default=True, validator=validators.Number(gte=1, lte=64))]
Json = Annotated[bool, Parameter(negative="")]

_NAMES = {
    Room.TRACKER: "a tracker",
    Room.NODE: "a storage node",
    Room.WORKERS: "workers",
    Room.GATEWAY: "a gateway",
}


def _run(config: Path, settings: tuple[str, ...], room: Room, *, json: bool, processes: int = 1) -> int:
    if not config.exists():
        raise ConfigurationError(f"There is no configuration {config}", hint="`tawara up DIR` makes one.")
    configuration = load(config, settings=settings)
    log.configure(msgspec.structs.replace(configuration.log, format="json") if json else configuration.log)
    directory = config.absolute().parent
    if processes == 1:
        run_until_signal(
            _served(configuration, directory, room, {}, lambda store: readiness.say(store, _NAMES[room], as_json=json))
        )
        return 0
    return _run_many(configuration, directory, room, json=json, processes=processes)


def _run_many(configuration: Configuration, directory: Path, room: Room, *, json: bool, processes: int) -> int:
    raise_descriptors()
    import_room(room)
    shares = share(wanted_addresses(configuration, room), processes)
    store = Running(configuration, directory)
    store.name_addresses(shares[0])

    def serve(listening: Listening, ready: Ready) -> None:
        run_until_signal(_served(configuration, directory, room, listening, lambda _: ready()))

    def announce() -> None:
        readiness.say(store, _NAMES[room], as_json=json, processes=processes)

    return Family(shares, serve, announce).run()


@asynccontextmanager
async def _served(
    configuration: Configuration,
    directory: Path,
    room: Room,
    listening: Listening,
    ready: Callable[[Running], None],
) -> AsyncIterator[Running]:
    async with running(configuration, directory, [room], listening=listening) as store:
        ready(store)
        yield store


def tracker(
    *, config: Config = Path(FILE), settings: Settings = (), processes: Processes = 1, json: Json = False
) -> int:
    """Run a tracker, until Ctrl-C.

    Example:

        tawara tracker -c /etc/tawara/tawara.toml --set tracker.listen=10.0.0.1:7001

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    processes
        How many processes share the work and the ports; one that dies is started again.
    json
        Say everything as JSON, one object a line; the first when the daemon is ready.
    """
    return _run(config, settings, Room.TRACKER, json=json, processes=processes)


def node(*, config: Config = Path(FILE), settings: Settings = (), processes: Processes = 1, json: Json = False) -> int:
    """Run a storage node for the devices of this machine, until Ctrl-C.

    Example:

        tawara node --set node.listen=10.0.0.2:7500 --set node.devices=/srv/devices

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    processes
        How many processes share the work and the ports; one that dies is started again.
    json
        Say everything as JSON, one object a line; the first when the daemon is ready.
    """
    return _run(config, settings, Room.NODE, json=json, processes=processes)


def workers(
    *, config: Config = Path(FILE), settings: Settings = (), processes: Processes = 1, json: Json = False
) -> int:
    """Run the background care (monitor, replicate, delete, sweep), until Ctrl-C. Any number of them may run.

    Example:

        tawara workers -c /etc/tawara/tawara.toml

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    processes
        How many processes share the work; one that dies is started again.
    json
        Say everything as JSON, one object a line; the first when the daemon is ready.
    """
    return _run(config, settings, Room.WORKERS, json=json, processes=processes)


def gateway(*, config: Config = Path(FILE), settings: Settings = (), json: Json = False) -> int:
    """Run the HTTP door, with nginx in front unless the configuration says otherwise, until Ctrl-C.

    Example:

        tawara gateway -c /etc/tawara/tawara.toml --set gateway.listen=10.0.0.1:80

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    json
        Say everything as JSON, one object a line; the first when the daemon is ready.
    """
    return _run(config, settings, Room.GATEWAY, json=json)
