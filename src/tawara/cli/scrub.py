"""`tawara scrub`: progress and findings of the scrub, which reads every byte within a period."""

from __future__ import annotations

from dataclasses import asdict

from cyclopts import App

from tawara.cli import output, scrubbed
from tawara.cli.fsck_report import MEANING, gather, print_advice, print_line
from tawara.cli.session import DEFAULT, Session
from tawara.client import AsyncClient
from tawara.client.maintenance_replies import FsckLine
from tawara.model.errors import Exit

app = App(name="scrub", help="Show progress and findings of the scrub.")


@app.command
async def status(*, session: Session = DEFAULT) -> int:
    """Show the progress of the round, and the findings of about a year.

    The exit code is 7 if a file needs manual intervention. The period is a setting:
    `tawara settings set tawara_scrub_period 30d`, and 0 turns the scrub off;
    `tawara_rate_scrub` limits the bytes that each process of workers reads in a second.

    For example:

        tawara scrub status
    """
    async with session.client() as client:
        at = await client.scrub_status()
        lines = await _log(client, 0) if at.counts else []
        found = gather(line for line in lines if line.time >= at.began - at.period)
        if session.json:
            output.json_line(asdict(at) | {"needs_operator": sorted(found.unrepairable)})
        else:
            output.line(scrubbed.where(at))
            if said := scrubbed.found(at):
                output.line(said)
            for code, meaning in MEANING.items():
                if at.counts.get(code):
                    output.line(f"{at.counts[code]:>9}  {code}  {meaning}")
            await print_advice(client, found.unrepairable)
    return Exit.CORRUPT if found.unrepairable else Exit.OK


@app.command
async def log(*, after: int = 0, session: Session = DEFAULT) -> None:
    """Show the log, one finding a line.

    For example:

        tawara scrub log --json

    Parameters
    ----------
    after
        The number of a line (logid) after which to begin.
    """
    async with session.client() as client:
        for each in await _log(client, after):
            if session.json:
                output.json_line(asdict(each))
            else:
                print_line(each)


async def _log(client: AsyncClient, after: int) -> list[FsckLine]:
    lines: list[FsckLine] = []
    while more := await client.scrub_log(lines[-1].logid if lines else after):
        lines += more
    return lines
