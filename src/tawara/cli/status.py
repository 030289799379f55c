"""`tawara status`: file safety, queues, trackers, hosts, devices, findings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from tawara.cli import output, scrubbed
from tawara.cli.disk_cell import shown_health
from tawara.cli.session import DEFAULT, Session
from tawara.client import DeviceInfo
from tawara.client.status import StoreStatus
from tawara.model.backlog import MOST
from tawara.model.cluster import DeviceState
from tawara.model.errors import Exit
from tawara.model.safety import Safety
from tawara.model.spans import counted, listed, span, when
from tawara.monitoring.findings import used_share
from tawara.monitoring.store_health import StoreHealth, observe

_BAR = 10
_LOOK_AGAIN = 2.0
_FRESH = 10
"""Maximum age in seconds of a count that is shown without its age."""


async def status(
    *,
    watch: Annotated[bool, Parameter(name=["--watch", "-w"])] = False,
    recount: bool = False,
    session: Session = DEFAULT,
) -> int:
    """Show how many files are one failure from loss, the queues and their rates, the devices, and findings.

    Where counting all files would take long, the figure is that of the last count, which is shown with its age.

    A finding is critical (files are lost or unreadable, or the store does not work), a warning, or a note: requested,
    such as a drain in progress. The exit code is 0 if there are only notes and muted findings, 1 if there is a problem,
    6 if no tracker answers. `tawara health` shows the findings alone, by code.

    For example:

        tawara status

        tawara status --tracker 10.0.0.1:7001,10.0.0.2:7001

        tawara status --json | jq .files.one_failure_from_loss

    Parameters
    ----------
    watch
        Refresh every two seconds, until Ctrl-C.
    recount
        Count all files first, even if that takes some seconds.
    """
    async with session.client() as client:
        while True:
            seen = await observe(client, recount=recount)
            if session.json:
                output.json_line(_fields(seen))
            else:
                if watch and sys.stdout.isatty():
                    sys.stdout.write("\x1b[H\x1b[2J\x1b[3J")
                _show(seen)
            if not watch:
                return Exit.FAILURE if seen.wrong else Exit.OK
            sys.stdout.flush()
            await asyncio.sleep(_LOOK_AGAIN)


def _fields(seen: StoreHealth) -> dict[str, Any]:
    found: dict[str, Any] = {
        "trackers": seen.trackers,
        "hosts": [asdict(each) for each in seen.hosts],
        "devices": [asdict(each) for each in seen.devices],
        "absences": [{"devid": devid, **asdict(each)} for devid, each in seen.absences.devices.items()],
        "brake": seen.absences.safety_limit,
        "problems": seen.wrong,
        "findings": [asdict(each) for each in seen.findings],
        "health": [asdict(each) for each in seen.items],
    }
    if seen.scrub is not None:
        found["scrub"] = asdict(seen.scrub)
    if seen.store is not None:
        safety = asdict(seen.store.safety)
        found["files"] = {"one_failure_from_loss": seen.store.safety.one_disk.files, **safety}
        found["counting"] = seen.store.counting
        found["changed_devices"] = seen.store.changed_devices
        found["counted_at"] = seen.store.counted_at
        found["queues"] = [asdict(each) | {"age": each.age(seen.store.now)} for each in seen.store.queues]
        found["certificates"] = [asdict(each) for each in seen.store.certificates]
        found["worker_processes"] = seen.store.processes
        found["work"] = [asdict(each) for each in seen.store.works]
    return found


def _show(seen: StoreHealth) -> None:
    if seen.store is not None:
        _show_files(seen.store)
        output.line()
        _show_work(seen.store)
        output.line()
    if seen.scrub is not None:
        output.line(scrubbed.where(seen.scrub))
        if said := scrubbed.found(seen.scrub):
            output.line(said)
        output.line()
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
            for address, told in seen.trackers.items()
        ],
        right=(3, 4, 5),
    )
    output.line()
    names = {each.hostid: each.name for each in seen.hosts}
    output.table(
        ("HOST", "STATE", "ADDRESS"),
        [(each.name, each.state.value, f"{each.ip}:{each.http_port}") for each in seen.hosts],
    )
    output.line()
    _show_devices(seen.devices, names)
    _show_shared(seen.devices, seen.store.safety if seen.store else None)
    output.line()
    if not seen.wrong:
        output.line("All is well.")
    muted = {each.code for each in seen.items if each.muted_until is not None}
    for finding in sorted(seen.findings, key=lambda each: -each.severity.rank):
        mark = " (muted)" if finding.code in muted else ""
        output.line(output.shown(f"{finding.severity}{mark}: {finding.text}."))


def _show_files(store: StoreStatus) -> None:
    safety = store.safety
    age = store.now - store.counted_at
    said = [] if age < _FRESH else [f"counted {when(store.counted_at, store.now)}"]
    if store.counting:
        said = ["so far: files are being counted for the first time"]
    if store.changed_devices:
        said.append(f"{counted(store.changed_devices, 'device')} changed since, which is not in the figure yet")
    wanted = safety.one_device_wanted.files
    by_wish = f", {wanted:,} of them because their class wants no more" if wanted else ""
    output.line(
        f"{safety.one_disk.files:,} of {counted(safety.files, 'file')} one failure from loss{by_wish}."
        + (f" ({'; '.join(said)})" if said else "")
    )
    if safety.one_host.files > safety.one_disk.files:
        output.line(f"{counted(safety.one_host.files, 'file')} on one host only.")


def _show_shared(devices: list[DeviceInfo], safety: Safety | None) -> None:
    """Report devices that are on one disk, and devices that share their space."""
    for names, devids in _batched(devices, lambda each: each.disk or each.file_system):
        files = safety.by_disk.get(devids[0], 0) if safety else 0
        lost = f"; {counted(files, 'file')} {'is' if files == 1 else 'are'} on that disk only" if files else ""
        output.line(f"{names} are on one disk and are lost together{lost}.")
    for names, _ in _batched(devices, lambda each: each.file_system):
        output.line(f"{names} are on one file system: the free space of each is the same space.")


def _batched(devices: list[DeviceInfo], place: Callable[[DeviceInfo], str]) -> list[tuple[str, list[int]]]:
    """Group the devices by `place`; return each group of two or more, as text and as numbers."""
    found: dict[str, list[int]] = {}
    for each in devices:
        if place(each) and each.state is not DeviceState.DEAD:
            found.setdefault(place(each), []).append(each.devid)
    return [(_range(sorted(devids)), sorted(devids)) for devids in found.values() if len(devids) > 1]


def _range(devids: list[int]) -> str:
    """Format devids: `dev1 and dev2`, `dev1, dev3 and dev9`, `dev1 to dev30`."""
    if len(devids) > 2 and devids[-1] - devids[0] == len(devids) - 1:
        return f"dev{devids[0]} to dev{devids[-1]}"
    return listed([f"dev{devid}" for devid in devids])


def _show_work(store: StoreStatus) -> None:
    rows = []
    for queue in store.queues:
        work = store.work(_WORKERS.get(queue.name, ""))
        age = queue.age(store.now)
        rows.append(
            (
                queue.name,
                _up_to(queue.due),
                "" if queue.name in _OPEN else _up_to(queue.later),
                "" if queue.name in _OPEN else _up_to(queue.stuck),
                "-" if age is None else span(age),
                "-" if work is None else f"{work.rate:,.1f}/s",
                "-" if work is None or work.capacity is None else f"{work.capacity:,.0f}/s",
            )
        )
    output.table(("WORK", "DUE", "LATER", "STUCK", "WAITS SINCE", "RATE", "CAPABLE OF"), rows, right=(1, 2, 3, 4, 5, 6))
    output.line(f"{counted(store.processes, 'process')} of workers.")


_WORKERS = {
    "replicate": "replicate",
    "delete": "delete",
    "check": "fsck",
    "move": "rebalance",
    "scrub": "scrub",
    "drain": "drain",
}
"""Queue -> the worker that empties it."""
_OPEN = ("upload", "copy")
"""Counts of rows that are not due."""


def _up_to(count: int) -> str:
    return f"{count:,}" if count < MOST else f"{MOST:,}+"


def _show_devices(devices: list[DeviceInfo], names: dict[int, str]) -> None:
    output.table(
        ("DEVICE", "HOST", "STATE", "OBSERVED", "USED", "", "SIZE", "BUSY", "DISK"),
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
                shown_health(each.health),
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
