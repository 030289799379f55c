"""`tawara simulate`: the effect of losing hosts or devices."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session
from tawara.cli.usage import MissingArgument
from tawara.client import AsyncClient
from tawara.client.snapshot import numbered, snapshot
from tawara.model import errors
from tawara.model.cluster import Cluster
from tawara.model.errors import Exit
from tawara.model.pace import COPIED
from tawara.model.placement_groups import PlacementGroup
from tawara.model.safety import Tally, judge
from tawara.model.simulation import LossOutcome, lose, without
from tawara.model.spans import counted, listed, roughly


async def simulate(
    *,
    lose: Annotated[
        list[str] | None, Parameter(name="--lose", help="A host, or a device devN; may be repeated.")
    ] = None,
    rate: Annotated[float | None, Parameter(help="Copies a second; default: the measured rate of the workers.")] = None,
    byte_rate: Annotated[float | None, Parameter(help="Megabytes a second; the slower of both rates decides.")] = None,
    recount: Annotated[bool, Parameter(help="Count all files first, which may take some seconds.")] = False,
    session: Session = DEFAULT,
) -> int:
    """Show the effect of losing hosts or devices, all together and permanently. Nothing is changed.

    Shows how many files would be lost or one failure from loss, whether the remaining devices have space for all copies
    that the policies require, and how long the repair would take.

    The exit code is 0 if all copies would fit, 1 if copies would be missing, 7 if files would be lost.

    For example:

        tawara simulate --lose store2

        tawara simulate --lose dev3 --lose dev7 --rate 500
    """
    if not lose:
        raise MissingArgument("simulate", "--lose HOST|devN [--lose …]", missing="argument: --lose")
    async with session.client() as client:
        return await print_loss(client, lose, session, rate=rate, byte_rate=byte_rate, recount=recount)


_lose = lose
_UNLIKE = 4
"""Ratio of file sizes (to be copied / measured) above which the estimate gets a warning."""


async def print_loss(
    client: AsyncClient,
    names: Sequence[str],
    session: Session,
    *,
    rate: float | None = None,
    byte_rate: float | None = None,
    recount: bool = False,
) -> int:
    """Print the effect of losing these devices; return the exit code as documented for `simulate`."""
    cluster = await snapshot(client)
    lost = devices_named(cluster, names)
    shared = _on_the_same_disks(cluster, lost)
    found = await client.placement([*lost, *shared], recount=recount)
    groups = numbered(cluster, found.groups)
    speed = await _speed(client, rate, byte_rate)
    outcome = await asyncio.to_thread(_lose, cluster, groups, lost)
    if found.partial:
        all_files = (await client.store_status()).safety
        outcome.elsewhere = max(0, all_files.one_disk.files - outcome.before.one_disk.files)
    with_disks = await asyncio.to_thread(_lost_with, cluster, groups, [*lost, *shared]) if shared else None
    if session.json:
        more = {"counted_at": found.counted_at, "on_the_same_disks": shared, "lost_with_disks": with_disks}
        output.json_line(_fields(cluster, outcome, speed) | more)
    else:
        _show(cluster, outcome, speed)
        if with_disks is not None:
            output.line(output.shown(f"{_about_disks(shared, with_disks)}."))
    if outcome.total("lost").files:
        return Exit.CORRUPT
    return Exit.OK if outcome.holds_all else Exit.FAILURE


def _on_the_same_disks(cluster: Cluster, lost: Sequence[int]) -> list[int]:
    """Return the other devices on the same disks, which would be lost, too, if the disks fail."""
    disks = cluster.disks
    failing = {disks[devid] for devid in lost if devid in disks}
    return [devid for devid, disk in sorted(disks.items()) if disk in failing and devid not in lost]


def _lost_with(cluster: Cluster, groups: Sequence[PlacementGroup], devids: Sequence[int]) -> int:
    """Return the number of files that would be lost with all of these devices."""
    rest = without(cluster, devids)
    return judge(rest, groups).lost.files - judge(cluster, groups).lost.files


def _about_disks(shared: Sequence[int], lost: int) -> str:
    names = listed([f"dev{devid}" for devid in shared])
    what = f"{counted(lost, 'file')} would be lost" if lost else "no file would be lost"
    return f"{names} {'is' if len(shared) == 1 else 'are'} on the same disk: if that disk fails, {what}"


def devices_named(cluster: Cluster, names: Sequence[str]) -> list[int]:
    """Resolve names of hosts and devices, with or without commas. Raises NotFoundError."""
    found: set[int] = set()
    for name in (each for text in names for each in text.split(",") if each):
        devid = re.fullmatch(r"dev(\d{1,9})", name, re.ASCII)
        host = cluster.hosts_by_name.get(name)
        if devid and int(devid[1]) in cluster.devices:
            found.add(int(devid[1]))
        elif host is not None:
            found |= {each.devid for each in cluster.devices.values() if each.hostid == host.hostid}
        else:
            raise errors.NoDevice(
                f"Not found: host or device {name!r}", hint=f"Hosts: {', '.join(sorted(cluster.hosts_by_name))}."
            )
    return sorted(found)


@dataclass(frozen=True, slots=True)
class Speed:
    """Rates from which the duration of the repair is estimated; None: unknown."""

    files: float | None = None
    """Copies a second."""
    bytes: float | None = None
    """Bytes a second."""
    shown: bool = False
    """Whether the rates were measured, not given as options."""


async def _speed(client: AsyncClient, rate: float | None, megabytes: float | None) -> Speed:
    """Return the rates given as options, otherwise the measured ones. If only one is given, the other is unlimited."""
    if rate is not None or megabytes is not None:
        return Speed(rate, None if megabytes is None else megabytes * 1e6)
    store = await client.store_status()
    files, copied = store.work("replicate"), store.work(COPIED)
    return Speed(files.capacity if files else None, copied.capacity if copied else None, shown=True)


def _fields(cluster: Cluster, outcome: LossOutcome, speed: Speed) -> dict[str, Any]:
    return {
        "lost_devices": outcome.lost_devices,
        "holds_all": outcome.holds_all,
        **{name: _tally(outcome.total(name)) for name in ("lost", "waiting", "short", "compromised")},
        "one_failure_from_loss": {
            "before": outcome.one_failure("before"),
            "after": outcome.one_failure("after"),
            "repaired": outcome.one_failure("repaired"),
        },
        "copies": outcome.copies,
        "bytes": outcome.bytes,
        "room": sum(outcome.space.values()),
        "rate": speed.files,
        "byte_rate": speed.bytes,
        "rates_are_measured": speed.shown,
        "repair_seconds": outcome.seconds(speed.files, speed.bytes),
        "filled": outcome.filled,
        "out_of_room": outcome.out_of_space,
        "classes": [
            {"domain": domain, "class": name, "files": each.files, "copies": each.copies, "bytes": each.bytes}
            | {tally: _tally(getattr(each, tally)) for tally in ("lost", "waiting", "short", "compromised")}
            for (domain, name), each in _by_name(cluster, outcome)
        ],
    }


def _tally(tally: Tally) -> dict[str, int]:
    return {"files": tally.files, "bytes": tally.bytes}


def _by_name(cluster: Cluster, outcome: LossOutcome) -> list[tuple[tuple[str, str], Any]]:
    found = []
    for (dmid, classid), each in sorted(outcome.classes.items()):
        domain = cluster.domains_by_id.get(dmid)
        storage_class = cluster.storage_class(dmid, classid)
        found.append(((domain.name if domain else "?", storage_class.name if storage_class else "?"), each))
    return found


def _show(cluster: Cluster, outcome: LossOutcome, speed: Speed) -> None:
    hosts = {cluster.devices[devid].hostid for devid in outcome.lost_devices}
    names = listed([f"dev{devid}" for devid in outcome.lost_devices]) if outcome.lost_devices else "no device"
    output.line(output.shown(f"Without {names} on {counted(len(hosts), 'host')}:"))
    output.line()
    output.table(
        ("DOMAIN", "CLASS", "FILES", "LOST", "COPIES TO MAKE", "DATA", "LEFT SHORT", "COMPROMISED"),
        [
            (
                *names,
                f"{each.files:,}",
                f"{each.lost.files:,}",
                f"{each.copies:,}",
                output.human_size(each.bytes),
                f"{each.short.files + each.waiting.files:,}",
                f"{each.compromised.files:,}",
            )
            for names, each in _by_name(cluster, outcome)
        ],
        right=(2, 3, 4, 5, 6, 7),
    )
    output.line()
    for text in sentences(outcome, speed):
        output.line(f"{text}.")


def sentences(outcome: LossOutcome, speed: Speed) -> list[str]:
    """Render the outcome as sentences."""
    said: list[str] = []
    lost, waiting, short = outcome.total("lost"), outcome.total("waiting"), outcome.total("short")
    compromised = outcome.total("compromised")
    if lost.files:
        said.append(f"{counted(lost.files, 'file')} ({output.human_size(lost.bytes)}) would be lost for ever")
    else:
        said.append("No file would be lost")
    before, after = outcome.one_failure("before"), outcome.one_failure("after")
    said.append(
        f"{counted(after, 'file')} would be one failure from loss until repaired ({before:,} are now);"
        f" {outcome.one_failure('repaired'):,} afterwards"
    )
    if waiting.files:
        said.append(f"{counted(waiting.files, 'file')} would have to wait for devices that cannot be read now")
    if short.files:
        full = (
            f": {', '.join(f'dev{devid}' for devid in outcome.out_of_space)} would be full"
            if outcome.out_of_space
            else ""
        )
        said.append(f"The rest has too little space: {counted(short.files, 'file')} would need more copies{full}")
    elif not lost.files and not waiting.files:
        space = sum(outcome.space.values())
        said.append(
            f"The remaining devices have enough space: {output.human_size(outcome.bytes)} to copy,"
            f" {output.human_size(space)}"
        )
    if compromised.files:
        said.append(f"{counted(compromised.files, 'file')} would not be spread as their class requires: too few hosts")
    return said + _repair(outcome, speed)


def _repair(outcome: LossOutcome, speed: Speed) -> list[str]:
    if not outcome.copies:
        return ["There would be nothing to repair"]
    seconds = outcome.seconds(speed.files, speed.bytes)
    if seconds is None:
        return ["The duration of the repair is unknown: no rate was measured yet; give --rate or --byte-rate"]
    files = speed.files or 0.0
    rates = [counted(round(files), "copy") if files >= 1 else f"{files:.2g} copies"] if files else []
    rates += [output.human_size(round(speed.bytes))] if speed.bytes else []
    source = ", the recent rate of the workers" if speed.shown else ""
    said = [
        f"The repair would take {roughly(seconds)}, at {' or '.join(rates)} a second{source}:"
        f" {counted(outcome.copies, 'copy')}, {output.human_size(outcome.bytes)}"
    ]
    if speed.shown and speed.files and speed.bytes:
        known, wanted = speed.bytes / speed.files, outcome.bytes / outcome.copies
        if wanted > _UNLIKE * known:
            said.append(
                f"Recently copied files had {output.human_size(round(known))} on average, these have"
                f" {output.human_size(round(wanted))}: it may go faster"
            )
    return said
