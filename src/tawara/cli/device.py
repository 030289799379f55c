"""`tawara device`: list, add, change and remove devices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.devid import Devid
from tawara.cli.disk_cell import shown_health
from tawara.cli.drain import drain
from tawara.cli.dry_run import DryRun, remove_or_preview
from tawara.cli.session import DEFAULT, Session
from tawara.cli.simulate import print_loss
from tawara.cli.usage import MissingArgument
from tawara.client import AsyncClient
from tawara.model import errors
from tawara.model.cluster import DeviceState
from tawara.model.errors import Exit

app = App(name="device", help="List, add, change and remove devices.")
app.command(drain)


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
                    f"dev{each.devid}",
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
            right=(4, 5, 6),
        )


def _size(mib: int | None) -> str:
    return "-" if mib is None else output.human_size(mib * 2**20)


@app.command
async def add(
    devid: Devid, /, *, host: str, state: DeviceState = DeviceState.ALIVE, session: Session = DEFAULT
) -> None:
    """Add a device: the directory devN of a host's storage node.

    For example:

        tawara device add dev5 --host store1

    Parameters
    ----------
    devid
        The device, devN.
    host
        Its host.
    state
        Its state.
    """
    async with session.client() as client:
        await client.create_device(devid, host=host, state=state)


@app.command
async def change(
    devid: Devid,
    /,
    *,
    state: DeviceState | None = None,
    weight: Annotated[int | None, Parameter(help="Its share of reads, relative to the other devices.")] = None,
    dry_run: DryRun = False,
    session: Session = DEFAULT,
) -> int:
    """Change a device.

    The files of a dead device are replicated from other devices; a dead device never comes back.

    For example:

        tawara device change dev5 --state drain

        tawara device change dev5 --state dead --dry-run

    Parameters
    ----------
    devid
        The device, devN.
    state
        Its state.
    """
    if state is None and weight is None:
        raise MissingArgument("device change", "devN --state STATE | --weight N", missing="--state or --weight")
    async with session.client() as client:
        host = await _host_of(client, devid)
        if dry_run:
            return await _print_preview(client, session, devid, state)
        if weight is not None:
            await client.set_device_weight(host, devid, weight)
        if state is not None:
            await client.set_device_state(host, devid, state)
    return Exit.OK


async def _print_preview(client: AsyncClient, session: Session, devid: int, state: DeviceState | None) -> int:
    """Print the effect of a change; for state dead, the output of `tawara simulate --lose`."""
    now = next(each.state for each in await client.devices() if each.devid == devid)
    if state is DeviceState.DEAD and now is not DeviceState.DEAD:
        return await print_loss(client, [f"dev{devid}"], session)
    refused = now is DeviceState.DEAD and state is DeviceState.ALIVE
    text = errors.StateTooHigh().message if refused else f"dev{devid} is {now}: {_EFFECTS[state]}"
    if session.json:
        refusal = errors.StateTooHigh.code if refused else None
        output.json_line({"devid": devid, "state": state, "refused": refusal, "sentences": [text]})
    else:
        output.line(f"{text}.")
    return errors.StateTooHigh.exit if refused else Exit.OK


_EFFECTS: dict[DeviceState | None, str] = {
    DeviceState.ALIVE: "it would be read and written",
    DeviceState.READONLY: "it would be read, but neither written to nor deleted from",
    DeviceState.DRAIN: "it would be read last and get no new files",
    DeviceState.DOWN: "it would be neither read nor written, but its replicas would still count",
    DeviceState.DEAD: "it would stay dead",
    None: "only how often it is read from would change",
}


@app.command(name=["remove", "rm"])
async def remove(devid: Devid, /, *, dry_run: DryRun = False, session: Session = DEFAULT) -> int:
    """Remove a dead device whose files have all been replicated from other devices.

    For example:

        tawara device remove dev5 --dry-run

    Parameters
    ----------
    devid
        The device, devN.
    """
    return await remove_or_preview(
        session, "device", {"devid": devid}, lambda client: client.delete_device(devid), dry_run=dry_run
    )


@app.command
async def accept(devid: Devid, /, *, session: Session = DEFAULT) -> None:
    """Accept the disk that is mounted now as the device, whichever disk it was before.

    For a disk that was replaced on purpose: the store does not use a device that has no identity, or a different one.
    `tawara fsck` finds the files that were on the former disk and are missing on this one.

    For example:

        tawara device accept dev5

    Parameters
    ----------
    devid
        The device, devN.
    """
    async with session.client() as client:
        await client.accept_device(devid)


@app.command
async def trust(devid: Devid, /, *, session: Session = DEFAULT) -> None:
    """Declare that an unreachable device will come back: its replicas count, however long it takes.

    Cancels its state `presumed dead`. Surplus replicas are removed when the device is back.

    For example:

        tawara device trust dev5

    Parameters
    ----------
    devid
        The device, devN.
    """
    async with session.client() as client:
        await client.trust_device(devid)


async def _host_of(client: AsyncClient, devid: int) -> str:
    hostid = next((each.hostid for each in await client.devices() if each.devid == devid), None)
    name = next((each.name for each in await client.hosts() if each.hostid == hostid), None)
    if name is None:
        raise errors.NoDevice(f"Not found: dev{devid}")
    return name
