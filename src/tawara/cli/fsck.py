"""`tawara fsck`: start, stop and follow a check of all files, and print its report and log."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.devid import Devid
from tawara.cli.fsck_report import print_line, report
from tawara.cli.session import DEFAULT, Session
from tawara.cli.usage import MissingArgument
from tawara.client import AsyncClient
from tawara.client.maintenance_replies import FsckStatus
from tawara.model.errors import Exit
from tawara.model.spans import span

app = App(name="fsck", help="Check all files and repair them (fsck).")

_LOOK_AGAIN = 0.5


@app.command
async def start(
    *,
    domain: str = "",
    storage_class: Annotated[str, Parameter(name="--class")] = "",
    prefix: str = "",
    device: tuple[Devid, ...] = (),
    every_byte: bool = False,
    policy_only: bool = False,
    position: Annotated[int | None, Parameter(name="--from")] = None,
    wait: bool = False,
    session: Session = DEFAULT,
) -> int:
    """Start a check, or continue the one that was stopped.

    Any option other than --wait starts a new check. The exit code with --wait is 0 if every file is good or was
    repaired, 7 if one needs manual intervention.

    Its rate is limited by settings: `queue_rate_for_fsck`, files a second, and `tawara_rate_fsck`, bytes a second that
    are read by each process of workers (`tawara settings set tawara_rate_fsck 20m`).

    For example:

        tawara fsck start --wait

        tawara fsck start --domain photos --prefix 2024/ --every-byte

        tawara fsck start --device dev3 --device dev4

    Parameters
    ----------
    domain
        Only files of this domain.
    storage_class
        Only files of this class of the domain.
    prefix
        Only files whose key begins so.
    device
        Only files with a replica on this device; may be repeated.
    every_byte
        Read all bytes of every replica and compare checksums, whatever the class requires.
    policy_only
        Check the database only, and replicas only of files with a problem there; much faster.
    position
        The fid after which to begin.
    wait
        Wait until the check has ended, and print the report.
    """
    if storage_class and not domain:
        raise MissingArgument("fsck start", "--domain DOMAIN --class CLASS", missing="argument: --domain")
    async with session.client() as client:
        if domain or prefix or device or every_byte or policy_only or position is not None:
            await client.fsck_reset(
                policy_only=policy_only,
                position=position or 0,
                domain=domain,
                storage_class=storage_class,
                prefix=prefix,
                devids=device,
                every_byte=every_byte,
            )
        await client.fsck_start()
        if not wait:
            return Exit.OK
        return await _report(client, await _until_done(client), session)


async def _report(client: AsyncClient, at: FsckStatus, session: Session) -> int:
    outcome = await report(client, at, as_json=session.json)
    if not at.stale:
        return outcome
    if not session.json:
        output.line(output.shown(at.stale))
    return Exit.FAILURE


async def _until_done(client: AsyncClient) -> FsckStatus:
    line = output.ChangingLine()
    while (at := await client.fsck_status()).busy and not at.stale:
        line.say(_progress(at))
        await asyncio.sleep(_LOOK_AGAIN)
    line.clear()
    return at


def _progress(at: FsckStatus) -> str:
    share = at.position / at.end if at.end else 1.0
    parts = [f"{min(share, 1.0):.0%}", f"file {at.position} of {at.end}"]
    if at.queued:
        parts.append(f"{at.queued} waiting")
    if trouble := sum(at.counts.get(code, 0) for code in ("POVI", "MISS", "BLEN", "BSUM", "NOPA")):
        parts.append(f"{trouble} with problems")
    if at.counts.get("GONE"):
        parts.append(f"{at.counts['GONE']} gone")
    if left := _time_left(at):
        parts.append(f"about {left} left")
    return ", ".join(parts)


def _time_left(at: FsckStatus) -> str | None:
    """Estimate the time left from the rate so far; None if not known yet."""
    took, done = at.current_time - at.start_time, at.position - (at.start_fid or 0)
    if not at.running or at.start_fid is None or took < 3 or done <= 0:
        return None
    return span((at.end - at.position) * took / done)


@app.command
async def status(*, session: Session = DEFAULT) -> int:
    """Show progress and findings of the check.

    The exit code is 7 if a file needs manual intervention.

    For example:

        tawara fsck status --json
    """
    async with session.client() as client:
        at = await client.fsck_status()
    if not session.json:
        if at.running:
            output.line(f"Running since {output.local_time(at.start_time)}, {_progress(at)}.")
        elif at.queued:
            output.line(f"Every file is queued; {at.queued} wait to be checked.")
        elif not at.start_time:
            output.line(output.shown(at.stale) if at.stale else "No check has run.")
            return Exit.FAILURE if at.stale else Exit.OK
        elif at.position < at.end:
            output.line(f"Stopped at {output.local_time(at.stop_time)}, {_progress(at)}.")
        else:
            output.line(f"Ended at {output.local_time(at.stop_time)}.")
        if at.policy_only:
            output.line("Only the database is checked, and replicas of files with a problem there.")
        if at.focus:
            output.line(f"Restricted to: {output.shown(at.focus)}.")
    async with session.client() as client:
        return await _report(client, at, session)


@app.command
async def stop(*, session: Session = DEFAULT) -> None:
    """Stop the check; `start` continues it."""
    async with session.client() as client:
        await client.fsck_stop()


@app.command
async def reset(*, session: Session = DEFAULT) -> None:
    """Reset the position: the next check begins with the first file."""
    async with session.client() as client:
        await client.fsck_reset()


@app.command
async def log(*, after: int = 0, follow: bool = False, clear: bool = False, session: Session = DEFAULT) -> None:
    """Show the log of checks, one finding a line.

    Parameters
    ----------
    after
        The number of a line (logid) after which to begin.
    follow
        Print new lines as they arrive, until Ctrl-C.
    clear
        Empty the log afterwards; the counts stay.
    """
    async with session.client() as client:
        while True:
            lines = await client.fsck_log(after)
            for each in lines:
                after = each.logid
                if session.json:
                    output.json_line(asdict(each))
                else:
                    print_line(each)
            if not lines and not follow:
                break
            if not lines:
                sys.stdout.flush()
                await asyncio.sleep(_LOOK_AGAIN)
        if clear:
            await client.fsck_clear_log()
