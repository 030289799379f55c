"""`tawara host`: list, add, change and remove storage machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.dry_run import DryRun, remove_or_preview
from tawara.cli.session import DEFAULT, Session
from tawara.model.cluster import HostState

app = App(name="host", help="List, add, change and remove hosts.")

Port = Annotated[int | None, Parameter(help="HTTP port of the storage node.")]
GetPort = Annotated[int | None, Parameter(help="HTTP port for reads, if different.")]
State = Annotated[HostState | None, Parameter(help="State of the host.")]
AltIp = Annotated[str | None, Parameter(name="--alt-ip", help="Address for clients within the alternative network.")]
AltMask = Annotated[str | None, Parameter(name="--alt-mask", help="The alternative network, ADDRESS/BITS.")]


@app.command(name=["list", "ls"])
async def show(*, session: Session = DEFAULT) -> None:
    """List the hosts."""
    async with session.client() as client:
        hosts = await client.hosts()
    if session.json:
        for each in hosts:
            output.json_line(asdict(each))
    else:
        output.table(
            ("HOST", "STATE", "ADDRESS", "PORT", "GET PORT", "ALT ADDRESS", "ALT MASK"),
            [
                (
                    each.name,
                    each.state.value,
                    each.ip,
                    str(each.http_port),
                    str(each.http_get_port or "-"),
                    each.altip or "-",
                    each.altmask or "-",
                )
                for each in hosts
            ],
            right=(3, 4),
        )


@app.command
async def add(
    host: str,
    /,
    *,
    ip: str,
    port: Port = 7500,
    get_port: GetPort = None,
    state: State = HostState.ALIVE,
    alt_ip: AltIp = None,
    alt_mask: AltMask = None,
    session: Session = DEFAULT,
) -> None:
    """Add a host.

    For example:

        tawara host add store1 --ip 10.0.0.1

    Parameters
    ----------
    ip
        Address of the storage node.
    """
    async with session.client() as client:
        await client.create_host(
            host,
            ip=ip,
            port=port or 7500,
            get_port=get_port,
            state=state or HostState.ALIVE,
            altip=alt_ip,
            altmask=alt_mask,
        )


@app.command
async def change(
    host: str,
    /,
    *,
    ip: str | None = None,
    port: Port = None,
    get_port: GetPort = None,
    state: State = None,
    alt_ip: AltIp = None,
    alt_mask: AltMask = None,
    session: Session = DEFAULT,
) -> None:
    """Change a host; values that are not given stay the same.

    For example:

        tawara host change store1 --state down

    Parameters
    ----------
    ip
        Address of the storage node.
    """
    async with session.client() as client:
        await client.update_host(host, ip=ip, port=port, get_port=get_port, state=state, altip=alt_ip, altmask=alt_mask)


@app.command
async def trust(host: str, /, *, session: Session = DEFAULT) -> None:
    """Declare that an unreachable host will come back: the replicas on its devices count, however long it takes.

    Cancels the state `presumed dead` of its devices. Surplus replicas are removed when the host is back.

    For example:

        tawara host trust store1
    """
    async with session.client() as client:
        await client.trust_host(host)


@app.command(name=["remove", "rm"])
async def remove(host: str, /, *, dry_run: DryRun = False, session: Session = DEFAULT) -> int:
    """Remove a host that has no devices.

    For example:

        tawara host remove store1 --dry-run
    """
    return await remove_or_preview(
        session, "host", {"host": host}, lambda client: client.delete_host(host), dry_run=dry_run
    )
