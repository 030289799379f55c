"""`tawara status`: trackers, hosts, devices, and what is wrong."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from tawara.cli import output
from tawara.cli.health import problems, used_share
from tawara.cli.session import DEFAULT, Session
from tawara.client import AsyncClient, DeviceInfo
from tawara.model import errors
from tawara.model.cluster import Host
from tawara.model.errors import Exit

_BAR = 10


async def status(*, session: Session = DEFAULT) -> int:
    """Show trackers, hosts and devices, and what is wrong.

    The exit code is 0 when all is well, 1 when something is wrong, 6 when no tracker answers.

    For example:

        tawara status
        tawara status --tracker 10.0.0.1:7001,10.0.0.2:7001
        tawara status --json | jq .problems
    """
    async with session.client() as client:
        hosts, devices = await client.hosts(), await client.devices()
        trackers = dict(
            zip(
                [f"{host}:{port}" for host, port in client.trackers()],
                await asyncio.gather(*(_tracker(client, each) for each in client.trackers())),
                strict=True,
            )
        )
    wrong = problems({address: told.get("trouble") for address, told in trackers.items()}, hosts, devices)
    if session.json:
        output.json_line({
            "trackers": trackers,
            "hosts": [asdict(each) for each in hosts],
            "devices": [asdict(each) for each in devices],
            "problems": wrong,
        })  # fmt: skip
    else:
        _show(trackers, hosts, devices)
        output.line()
        for each in wrong or ["All is well"]:
            output.line(output.shown(f"{each}."))
    return Exit.FAILURE if wrong else Exit.OK


async def _tracker(client: AsyncClient, address: tuple[str, int]) -> dict[str, str]:
    try:
        return await client.tracker_stats(address)
    except errors.TrackerUnreachable as error:
        return {"trouble": error.message}


def _show(trackers: dict[str, dict[str, str]], hosts: list[Host], devices: list[DeviceInfo]) -> None:
    output.table(
        ("TRACKER", "STATE", "VERSION", "UP", "REQUESTS", "WAITING"),
        [
            (
                address,
                "unreachable" if "trouble" in told else "ok",
                told.get("version", ""),
                _duration(told.get("uptime", "")),
                told.get("queries", "0"),
                told.get("pending_queries", ""),
            )
            for address, told in trackers.items()
        ],
        right=(3, 4, 5),
    )
    backlog = {name: told[name] for told in trackers.values() for name in told if name.startswith("work_queue_for_")}
    if backlog:
        output.line()
        work = [(name.removeprefix("work_queue_for_"), count) for name, count in sorted(backlog.items())]
        output.table(("WORK", "WAITING"), work, right=(1,))
    output.line()
    names = {each.hostid: each.name for each in hosts}
    output.table(
        ("HOST", "STATE", "ADDRESS"), [(each.name, each.state.value, f"{each.ip}:{each.http_port}") for each in hosts]
    )
    output.line()
    output.table(
        ("DEVICE", "HOST", "STATE", "OBSERVED", "USED", "", "SIZE", "BUSY"),
        [
            (
                f"dev{each.devid}",
                names.get(each.hostid, "?"),
                each.state.value,
                each.observed.value if each.observed else "-",
                _bar(used_share(each)),
                "" if (share := used_share(each)) is None else f"{share:.0%}",
                "-" if each.mb_total is None else output.human_size(each.mb_total * 2**20),
                "-" if each.utilization is None else f"{each.utilization:.0f}%",
            )
            for each in devices
        ],
        right=(5, 6, 7),
    )


def _bar(share: float | None) -> str:
    if share is None:
        return "-"
    full = round(share * _BAR)
    return "█" * full + "░" * (_BAR - full)


def _duration(seconds: str) -> str:
    if not seconds.isdigit():
        return ""
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    return f"{days}d {hours}h" if days else f"{hours}h {rest // 60}m" if hours else f"{rest // 60}m {rest % 60}s"
