"""Progress and findings of the scrub, as sentences for `tawara status`."""

from __future__ import annotations

from tawara.cli import output
from tawara.client import AsyncClient
from tawara.client.maintenance_replies import ScrubStatus
from tawara.model import errors
from tawara.model.spans import counted, span


async def ask(client: AsyncClient) -> ScrubStatus | None:
    """Ask for the status of the scrub; None from a tracker of MogileFS."""
    try:
        return await client.scrub_status()
    except errors.UnknownCommand:
        return None


def where(at: ScrubStatus) -> str:
    """Describe the progress of the round."""
    if not at.period:
        return "The scrub is off; `tawara settings set tawara_scrub_period 30d` turns it on."
    every = f"Every byte is read within {span(at.period)}"
    if not at.began:
        return f"{every}; no round has begun yet."
    share = at.checked / (at.checked + at.left) if at.checked else 0.0
    parts = [
        f"{share:.0%} of this round done, {counted(at.checked, 'file')}",
        f"it began {output.local_time(at.began)}",
    ]
    if at.queued:
        parts.append(f"{counted(at.queued, 'file')} wait{'s' if at.queued == 1 else ''}")
    if at.stalled:
        parts.append(f"{at.stalled} deferred, because a device does not answer")
    parts.append(_pace(at))
    return f"{every}: {', '.join(parts)}."


def found(at: ScrubStatus) -> str:
    """Describe the damage found within the last period; empty if none."""
    if not at.bad_replicas and not at.unrepairable:
        return ""
    became = [f"{counted(at.repaired, 'file')} repaired"]
    if at.bad_waiting:
        became.append(f"{counted(at.bad_waiting, 'file')} being repaired")
    if at.unrepairable:
        became.append(f"{counted(at.unrepairable, 'file')} for manual intervention")
    return f"Within that time {counted(at.bad_replicas, 'replica')} went bad: {', '.join(became)}."


def sentences(at: ScrubStatus) -> list[str]:
    """Return the findings of the scrub as sentences."""
    wrong = []
    if at.unrepairable:
        needs = "needs" if at.unrepairable == 1 else "need"
        wrong.append(
            f"{counted(at.unrepairable, 'file')} {needs} manual intervention, found by the scrub:"
            " see `tawara scrub status`"
        )
    if at.late:
        wrong.append(f"The scrub does not keep its period of {span(at.period)}: {_pace(at)}")
    return wrong


def _pace(at: ScrubStatus) -> str:
    if not at.late:
        return "in time"
    return f"this round is expected to take {span(at.expected_end - at.began)}"
