"""`tawara tracker`, `node`, `workers`, `gateway`: the rooms of the store apart, each a process of its own."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import log
from tawara.cli.assembly import Room, running
from tawara.cli.configuration import FILE, load
from tawara.cli.foreground import run_until_signal
from tawara.model.errors import ConfigurationError

Config = Annotated[Path, Parameter(name=["--config", "-c"])]
Settings = Annotated[tuple[str, ...], Parameter(name="--set", negative="")]


def _run(config: Path, settings: Collection[str], room: Room) -> None:
    if not config.exists():
        raise ConfigurationError(f"There is no configuration {config}", hint="`tawara up DIR` makes one.")
    configuration = load(config, settings=settings)
    log.configure(configuration.log)
    run_until_signal(running(configuration, config.absolute().parent, [room]))


def tracker(*, config: Config = Path(FILE), settings: Settings = ()) -> None:
    """Run a tracker, until Ctrl-C.

    Example:

        tawara tracker -c /etc/tawara/tawara.toml --set tracker.listen=10.0.0.1:7001

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    """
    _run(config, settings, Room.TRACKER)


def node(*, config: Config = Path(FILE), settings: Settings = ()) -> None:
    """Run a storage node for the devices of this machine, until Ctrl-C.

    Example:

        tawara node --set node.listen=10.0.0.2:7500 --set node.devices=/srv/devices

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    """
    _run(config, settings, Room.NODE)


def workers(*, config: Config = Path(FILE), settings: Settings = ()) -> None:
    """Run the background care (monitor, replicate, delete, sweep), until Ctrl-C. Any number of them may run.

    Example:

        tawara workers -c /etc/tawara/tawara.toml

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    """
    _run(config, settings, Room.WORKERS)


def gateway(*, config: Config = Path(FILE), settings: Settings = ()) -> None:
    """Run the HTTP door, with nginx in front unless the configuration says otherwise, until Ctrl-C.

    Example:

        tawara gateway -c /etc/tawara/tawara.toml --set gateway.listen=10.0.0.1:80

    Parameters
    ----------
    config
        The configuration; relative paths in it start from its directory.
    settings
        A setting for this run, section.name=value; may be repeated.
    """
    _run(config, settings, Room.GATEWAY)
