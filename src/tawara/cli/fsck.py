"""`tawara fsck`: check every file, and put right what can be."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session
from tawara.client import AsyncClient
from tawara.client.answers import FsckStatus
from tawara.model.errors import Exit

app = App(name="fsck", help="Check every file, and put right what can be.")

MEANING = {
    "NOPA": "no replica known",
    "POVI": "too few copies, too many, or in the wrong places",
    "MISS": "replica not on its disk",
    "BLEN": "replica of the wrong length",
    "BSUM": "replica with other bytes than were stored",
    "MSUM": "replicas that differ, with nothing to tell which is right",
    "BALG": "checksum of another type than the class wants",
    "SRCH": "searched on every device",
    "FOND": "found by search",
    "GONE": "GONE: no good replica anywhere",
    "REPL": "queued to be copied",
    "BCNT": "number of copies corrected",
    "NSUM": "missing checksum stored",
}
"""What each code of the log says, the causes before the cures."""
_HOPELESS = ("GONE", "MSUM")
_LOOK_AGAIN = 0.5


@app.command
async def start(
    *,
    policy_only: bool = False,
    position: Annotated[int | None, Parameter(name="--from")] = None,
    wait: bool = False,
    session: Session = DEFAULT,
) -> int:
    """Begin a check, or go on with the one that was stopped.

    With --policy-only or --from a new one begins in any case. The exit code with --wait is 0 if every file is well or
    was repaired, 7 if one cannot be.

    For example:

        tawara fsck start --wait

        tawara fsck start --policy-only

    Parameters
    ----------
    policy_only
        Look at the database alone, unless it is not in order; much quicker.
    position
        The number of a file (fid) behind which to begin.
    wait
        Wait until the check has ended, and report.
    """
    async with session.client() as client:
        if policy_only or position is not None:
            await client.fsck_reset(policy_only=policy_only, position=position or 0)
        await client.fsck_start()
        if not wait:
            return Exit.OK
        return _report(await _until_done(client), session)


async def _until_done(client: AsyncClient) -> FsckStatus:
    shown = sys.stderr.isatty()
    while (at := await client.fsck_status()).busy:
        if shown:
            sys.stderr.write(f"\r\x1b[K{_progress(at)}")
            sys.stderr.flush()
        await asyncio.sleep(_LOOK_AGAIN)
    if shown:
        sys.stderr.write("\r\x1b[K")
    return at


def _progress(at: FsckStatus) -> str:
    share = at.position / at.end if at.end else 1.0
    parts = [f"{min(share, 1.0):.0%}", f"file {at.position} of {at.end}"]
    if at.queued:
        parts.append(f"{at.queued} waiting")
    if trouble := sum(at.counts.get(code, 0) for code in ("POVI", "MISS", "BLEN", "BSUM", "NOPA")):
        parts.append(f"{trouble} in need")
    if at.counts.get("GONE"):
        parts.append(f"{at.counts['GONE']} gone")
    return ", ".join(parts)


def _report(at: FsckStatus, session: Session) -> int:
    hopeless = any(at.counts.get(code) for code in _HOPELESS)
    if session.json:
        output.json_line(asdict(at) | {"busy": at.busy})
    else:
        for code, meaning in MEANING.items():
            if at.counts.get(code):
                output.line(f"{at.counts[code]:>9}  {code}  {meaning}")
        if at.stalled:
            output.line(f"{at.stalled:>9}        put off: a device of theirs does not answer")
        if not at.counts and not at.stalled:
            output.line("Nothing to report: every file that was checked is well.")
        elif at.counts and not hopeless:
            output.line("What was wrong is repaired, or being repaired.")
    return Exit.CORRUPT if hopeless else Exit.OK


@app.command
async def status(*, session: Session = DEFAULT) -> int:
    """Show how the check stands, and what it has found so far.

    The exit code is 7 if a file cannot be repaired.
    """
    async with session.client() as client:
        at = await client.fsck_status()
    if not session.json:
        if at.running:
            output.line(f"Running since {output.local_time(at.start_time)}, {_progress(at)}.")
        elif at.queued:
            output.line(f"Every file is queued; {at.queued} wait to be looked at.")
        elif not at.start_time:
            output.line("No check has run.")
            return Exit.OK
        elif at.position < at.end:
            output.line(f"Stopped at {output.local_time(at.stop_time)}, {_progress(at)}.")
        else:
            output.line(f"Ended at {output.local_time(at.stop_time)}.")
        if at.policy_only:
            output.line("Only the database is looked at, unless it is not in order.")
    return _report(at, session)


@app.command
async def stop(*, session: Session = DEFAULT) -> None:
    """Stop the check; `start` goes on with it."""
    async with session.client() as client:
        await client.fsck_stop()


@app.command
async def reset(*, session: Session = DEFAULT) -> None:
    """Have the next check begin with the first file."""
    async with session.client() as client:
        await client.fsck_reset()


@app.command
async def log(*, after: int = 0, follow: bool = False, clear: bool = False, session: Session = DEFAULT) -> None:
    """Show what checks have found, file by file.

    Parameters
    ----------
    after
        The number of a line (logid) after which to begin.
    follow
        Go on showing lines as they come, until Ctrl-C.
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
                    device = "" if each.devid is None else f"dev{each.devid}"
                    where = f"{each.logid:>8}  {output.local_time(each.time)}  {each.fid or '-':>10}  {device:<8}"
                    output.line(f"{where}  {each.code}  {MEANING.get(each.code, '')}".rstrip())
            if not lines and not follow:
                break
            if not lines:
                sys.stdout.flush()
                await asyncio.sleep(_LOOK_AGAIN)
        if clear:
            await client.fsck_clear_log()
