"""`tawara health`: the findings by code, and mutes."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import Annotated

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session
from tawara.model import amounts
from tawara.model.errors import Exit, UnknownCommand, UsageError
from tawara.model.health_codes import MUTE_PREFIX, HealthCode, HealthItem, Mute, Severity
from tawara.model.spans import when
from tawara.monitoring.store_health import StoreHealth, observe

app = App(name="health")


@app.default
async def show(*, session: Session = DEFAULT) -> int:
    """Show the findings by code, the worst first: since when, and whether they are muted.

    Codes are stable, for scripts and alerts. The exit code is 0 if there are only notes and muted findings, 1 if
    there is a problem, 6 if no tracker answers.

    For example:

        tawara health

        tawara health --json | jq -r 'select(.severity == "critical").code'
    """
    async with session.client() as client:
        seen = await observe(client)
    now = seen.store.now if seen.store else 0
    if session.json:
        for each in seen.items:
            output.json_line(asdict(each))
    else:
        _print(seen.items, now)
    return Exit.FAILURE if seen.wrong else Exit.OK


def _print(items: list[HealthItem], now: int) -> None:
    if not items:
        output.line("All is well.")
    for each in items:
        since = f", since {when(each.since, now)}" if each.since is not None else ""
        muted = f", muted; the mute ends {when(each.muted_until, now)}" if each.muted_until is not None else ""
        output.line(f"{each.code} {each.severity}{since}{muted}")
        for text in each.texts:
            output.line(output.shown(f"    {text}."))


@app.command
async def mute(code: str, duration: str, /, *, session: Session = DEFAULT) -> None:
    """Mute a code: it is still shown, but does not count for exit codes and alerts.

    The mute ends after DURATION, or when the finding becomes more severe than it is now.

    For example:

        tawara health mute DEVICE_SUSPECT 2h

    Parameters
    ----------
    code
        The code, as `tawara health` prints it.
    duration
        A time such as 30m, 2h or 7d.
    """
    known = _parse_code(code)
    seconds = amounts.duration(duration)
    if not seconds:
        raise UsageError(f"tawara health mute: {duration!r} is not a time", hint="Write it as 30m, 2h or 7d.")
    async with session.client() as client:
        seen = await observe(client)
        if seen.store is None:
            raise UnknownCommand("A tracker of MogileFS cannot mute findings")
        until = Mute(seen.store.now + seconds, _present_severity(seen, known))
        await client.set_setting(f"{MUTE_PREFIX}{known}", str(until))


@app.command
async def unmute(code: Annotated[str, Parameter()], /, *, session: Session = DEFAULT) -> None:
    """End the mute of a code now.

    For example:

        tawara health unmute DEVICE_SUSPECT
    """
    known = _parse_code(code)
    async with session.client() as client:
        await client.remove_setting(f"{MUTE_PREFIX}{known}")


def _present_severity(seen: StoreHealth, code: HealthCode) -> Severity:
    """Return the severity up to which a mute applies: the present one; a warning if there is no such finding now."""
    return next((each.severity for each in seen.items if each.code is code), Severity.WARNING)


def _parse_code(text: str) -> HealthCode:
    wanted = text.upper().replace("-", "_")
    if wanted in HealthCode.__members__:
        return HealthCode[wanted]
    near = difflib.get_close_matches(wanted, [each.value for each in HealthCode], n=1)
    meant = f"; is {near[0]} meant?" if near else ""
    raise UsageError(f"There is no health code {text!r}{meant}", hint=f"Codes: {', '.join(HealthCode)}.")
