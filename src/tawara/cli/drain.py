"""`tawara device drain`: empty devices, and report when their disks may be removed."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import asdict

from tawara.cli import output
from tawara.cli.devid import Devid
from tawara.cli.session import DEFAULT, Session
from tawara.client import AsyncClient
from tawara.client.maintenance_replies import DrainStatus
from tawara.model import errors
from tawara.model.drain import DrainRun, seconds_left
from tawara.model.errors import Exit
from tawara.model.spans import roughly

_LOOK_AGAIN = 0.5


async def drain(
    *devids: Devid, undo: bool = False, wait: bool = False, status: bool = False, session: Session = DEFAULT
) -> int:
    """Drain devices, and report when their disks may be removed.

    A device that is being drained gets no new files, and each replica on it is moved to a device that satisfies the
    file's class; no file ever has fewer copies than before. The workers continue when this command ends, and a drain
    may be undone until the disk is removed. Without a device, show all devices that are being drained. The exit code
    with --wait or --status is 0 if all disks may be removed, 1 otherwise.

    For example:

        tawara device drain dev3 --wait

        tawara device drain dev3 --undo

    Parameters
    ----------
    devids
        The devices, written as dev3 or 3.
    undo
        Cancel the drain: move nothing more, and allow new files again.
    wait
        Wait until the disks may be removed; Ctrl-C ends only the waiting.
    status
        Only show progress.
    """
    async with session.client() as client:
        if not status:
            for devid in devids:
                await client.drain_device(devid, undo=undo)
        if undo:
            return Exit.OK
        found = await _wait_for_drains(client, devids) if wait else await _drains(client, devids)
    for each in found:
        if session.json:
            output.json_line(asdict(each))
        else:
            output.line(_describe_progress(each))
    if not found and not session.json:
        output.line("No device is being drained.")
    return Exit.OK if all(each.safe for each in found) or not (wait or status) else Exit.FAILURE


async def _drains(client: AsyncClient, devids: Collection[int]) -> list[DrainStatus]:
    """Return the progress of these, or of all draining devices. Raises NoDevice for one that is not draining."""
    found = {each.devid: each for each in await client.drains()}
    for devid in devids:
        if devid not in found:
            raise errors.NoDevice(f"dev{devid} is not being drained", hint="Its state was changed meanwhile.")
    return [found[devid] for devid in devids or sorted(found)]


async def _wait_for_drains(client: AsyncClient, devids: Collection[int]) -> list[DrainStatus]:
    line = output.ChangingLine(piped=True)
    while True:
        found = await _drains(client, devids)
        if all(each.safe for each in found):
            break
        line.say("; ".join(map(_describe_progress, found)), kind=tuple(map(_kind, found)))
        await asyncio.sleep(_LOOK_AGAIN)
    line.clear()
    return found


def _kind(each: DrainStatus) -> tuple[object, ...]:
    """Return what the drain waits for; without a terminal, a line is printed whenever this changes."""
    return (each.devid, bool(each.left), bool(each.failed), bool(each.copies), bool(each.uploads), each.uploads_until)


def _describe_progress(each: DrainStatus) -> str:
    if each.safe:
        return f"dev{each.devid} is empty: its disk may be removed."
    parts = [f"{each.left} of {each.files} files are left"]
    if each.left and not each.waiting and not each.failed:
        parts.append("no other device can take them now (see `tawara explain`); they will be retried")
    if each.failed:
        parts.append(f"moving {each.failed} failed and will be retried")
    if not each.left and each.copies:
        parts.append(f"{each.copies} files' bytes are still to be deleted")
    if each.uploads:
        until = f", at {output.local_time(each.uploads_until)} at the latest" if each.uploads_until else ""
        parts.append(f"{each.uploads} uploads may still go there; the abandoned ones among them are given up{until}")
    left = seconds_left(DrainRun(began=each.began, files=each.files), left=each.left, now=each.current_time)
    if left and each.waiting:
        parts.append(roughly(left))
    return f"dev{each.devid} is being drained: {', '.join(parts)}."
