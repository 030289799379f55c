"""Findings about unreachable devices, as sentences for `tawara status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import localtime, strftime

from tawara.cli.health import Finding, note, warning
from tawara.client import AsyncClient
from tawara.client.maintenance_replies import Absences
from tawara.model import errors
from tawara.model.cluster import DeviceAbsence, Liveness
from tawara.model.spans import span


async def ask(client: AsyncClient) -> Absences:
    """Request the unreachable devices; empty from a tracker of MogileFS, which does not track them."""
    try:
        return await client.absences()
    except errors.UnknownCommand:
        return Absences({}, 0, "")


def findings(absences: Absences) -> list[Finding]:
    """Return one finding for each liveness state, and one for an active safety limit."""
    by_liveness: dict[Liveness, dict[int, DeviceAbsence]] = {}
    for devid, absent in absences.devices.items():
        by_liveness.setdefault(absent.liveness, {})[devid] = absent
    found = [
        (note if liveness in _EXPECTED else warning)(_sentence(liveness, by_liveness[liveness], absences))
        for liveness in Liveness
        if liveness in by_liveness
    ]
    if absences.safety_limit and Liveness.SUSPECT in by_liveness:
        found.append(warning(f"No further device is presumed dead: {absences.safety_limit}"))
    return found


_EXPECTED = (Liveness.TRUSTED, Liveness.RETURNED)
"""States that need no action: set by an operator, or temporary."""


def _sentence(liveness: Liveness, devices: Mapping[int, DeviceAbsence], absences: Absences) -> str:
    names = _names(sorted(devices))
    match liveness:
        case Liveness.SUSPECT:
            since = strftime("%H:%M on %A", localtime(min(each.since for each in devices.values())))
            then = f"presumed dead after {span(absences.after)}" if absences.after else "never presumed dead"
            return f"{names}: suspect, unreachable since {since}; {then}"
        case Liveness.PRESUMED_DEAD:
            undo = f"`tawara device trust dev{min(devices)}` undoes it"
            return f"{names}: presumed dead, its files are being copied elsewhere; {undo}"
        case Liveness.TRUSTED:
            return f"{names}: unreachable and trusted to come back, so its replicas count"
        case Liveness.RETURNED:
            return f"{names}: back again; surplus replicas are being removed"


def _names(devids: Sequence[int]) -> str:
    return ", ".join(f"dev{devid}" for devid in devids)
