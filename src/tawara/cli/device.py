"""`tawara device`: list, add and change devices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.health import shown_health
from tawara.cli.session import DEFAULT, Session
from tawara.client import AsyncClient
from tawara.model import errors
from tawara.model.cluster import DeviceState

app = App(name="device", help="List, add and change devices.")


@app.command(name=["list", "ls"])
async def show(*, session: Session = DEFAULT) -> None:
    """List the devices."""
    async with session.client() as client:
        devices, names = await client.devices(), {each.hostid: each.name for each in await client.hosts()}
    if session.json:
        for each in devices:
            output.json_line(asdict(each) | {"host": names.get(each.hostid)})
    else:
        output.table(
            ("DEVICE", "HOST", "STATE", "OBSERVED", "WEIGHT", "SIZE", "FREE", "DISK"),
            [
                (
                    str(each.devid),
                    names.get(each.hostid, "?"),
                    each.state.value,
                    each.observed.value if each.observed else "-",
                    str(each.weight),
                    _size(each.mb_total),
                    _size(None if each.mb_used is None else (each.mb_total or 0) - each.mb_used),
                    shown_health(each.health),
                )
                for each in devices
            ],
            right=(0, 4, 5, 6),
        )


def _size(mib: int | None) -> str:
    return "-" if mib is None else output.human_size(mib * 2**20)


@app.command
async def add(devid: int, /, *, host: str, state: DeviceState = DeviceState.ALIVE, session: Session = DEFAULT) -> None:
    """Make a device: the directory devN of a host's storage node.

    For example:

        tawara device add 5 --host store1

    Parameters
    ----------
    devid
        Its number, the N of devN.
    host
        The host that it is in.
    state
        What people decide about it.
    """
    async with session.client() as client:
        await client.create_device(devid, host=host, state=state)


@app.command
async def change(
    devid: int,
    /,
    *,
    state: DeviceState | None = None,
    weight: Annotated[int | None, Parameter(help="How much it is read from, relative to the others.")] = None,
    session: Session = DEFAULT,
) -> None:
    """Change a device.

    A dead device's files are copied again from elsewhere; a dead device never comes back to life.

    For example:

        tawara device change 5 --state drain

    Parameters
    ----------
    devid
        Its number.
    state
        What people decide about it.
    """
    if state is None and weight is None:
        raise errors.UsageError("Change what? Say --state or --weight")
    async with session.client() as client:
        host = await _host_of(client, devid)
        if weight is not None:
            await client.set_device_weight(host, devid, weight)
        if state is not None:
            await client.set_device_state(host, devid, state)


@app.command
async def trust(devid: int, /, *, session: Session = DEFAULT) -> None:
    """Say that an absent device will come back: its copies count, however long it takes.

    Undoes that it was presumed dead. Copies that were made meanwhile are trimmed once it is back.

    For example:

        tawara device trust 5

    Parameters
    ----------
    devid
        Its number.
    """
    async with session.client() as client:
        await client.trust_device(devid)


async def _host_of(client: AsyncClient, devid: int) -> str:
    hostid = next((each.hostid for each in await client.devices() if each.devid == devid), None)
    name = next((each.name for each in await client.hosts() if each.hostid == hostid), None)
    if name is None:
        raise errors.NoDevice(f"There is no device {devid}")
    return name
