"""Progress of the scrub, and the damage that it found, as sentences."""

from __future__ import annotations

from tawara.cli import output
from tawara.client.maintenance_replies import ScrubStatus
from tawara.model.spans import counted, span
from tawara.monitoring.findings import scrub_pace


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
    parts.append(scrub_pace(at))
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
