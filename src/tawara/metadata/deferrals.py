"""Records in `server_settings` which unavailable devices caused work to be deferred, so that any process can retry.

`tawara_missed_dev3` holds the time when work was last deferred while dev3 was known to be unusable,
`tawara_doubted_dev3` the time when dev3 seemed usable but did not respond. Both are written in the transaction that
defers the work. Each function is part of a transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tawara.metadata import cluster, runs
from tawara.metadata.contract import Transaction

SETTLED = 5
"""Seconds without a new deferral before a device is taken to be usable; the monitor has observed it since."""
PAUSE = 60
"""Least seconds between two retries of all deferred work, however often a device's state changes."""
MOST_FAILURES = 3
"""Most failures of work that is retried early although its device seemed usable: it may fail again."""
_RESCHEDULED = "tawara_hastened"
"""Setting: time of the last retry of deferred work, in unix seconds."""
_MISSED, _SUSPECTS = "tawara_missed_dev", "tawara_doubted_dev"


@dataclass(frozen=True, slots=True)
class BlockedOn:
    """The devices that caused a unit of work to be deferred."""

    missed: frozenset[int] = frozenset()
    """Devices known to be unusable."""
    suspects: frozenset[int] = frozenset()
    """Devices that seemed usable but did not respond."""


NO_DEVICES = BlockedOn()


@dataclass(frozen=True, slots=True)
class DeferralNote:
    """One row: when a device last caused a deferral."""

    devid: int
    at: int
    seen: bool
    """Whether the device was known to be unusable."""

    @property
    def field(self) -> str:
        """Return the name of the setting."""
        return f"{_MISSED if self.seen else _SUSPECTS}{self.devid}"


async def note(tx: Transaction, blocked_on: BlockedOn, *, now: int) -> None:
    """Record that this transaction defers work because of these devices."""
    upsert = tx.dialect.upsert("server_settings", ("field",), ("value",))
    fields = [f"{_SUSPECTS}{devid}" for devid in blocked_on.suspects - blocked_on.missed]
    fields += [f"{_MISSED}{devid}" for devid in blocked_on.missed]
    await tx.run_many(upsert, [(field, str(now)) for field in sorted(fields)])


def notes(settings: Mapping[str, str]) -> list[DeferralNote]:
    """Return the deferral notes among the settings."""
    found = []
    for prefix, seen in ((_MISSED, True), (_SUSPECTS, False)):
        for field, value in settings.items():
            devid = field.removeprefix(prefix)
            if devid != field and devid.isdigit():
                found.append(DeferralNote(int(devid), runs.number(value), seen))
    return found


async def remove_unchanged(tx: Transaction, known: Iterable[DeferralNote]) -> list[DeferralNote]:
    """Remove the rows that have not changed since they were read; return those removed."""
    remove = "DELETE FROM server_settings WHERE field = ? AND value = ?"
    return [each for each in known if await tx.run(remove, each.field, str(each.at))]


async def take_tick(tx: Transaction, usable: Iterable[DeferralNote], *, now: int) -> list[DeferralNote]:
    """Remove the notes of devices that are usable again, and return them: the caller retries what they deferred.

    Empty if another process removed them, or if work was retried less than PAUSE ago: then the notes stay.
    """
    last = runs.number(await cluster.get_setting(tx, _RESCHEDULED))
    if now - PAUSE < last <= now:
        return []
    gone = await remove_unchanged(tx, usable)
    if gone:
        await cluster.set_setting(tx, _RESCHEDULED, str(now))
    return gone
