"""Devices for whose sake work was put off: rows of the settings, so that it does not matter who sees them well again.

`tawara_missed_dev3` says when work was last put off while dev3 could not be used, `tawara_doubted_dev3` when that was
because dev3, which seemed well, did not answer. Both are written together with what was put off. Each function is part
of a transaction; times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tawara.metadata import cluster, runs
from tawara.metadata.contract import Transaction

SETTLED = 5
"""Seconds for which nothing was put off for a device's sake before it is thought to be well: it was looked at since."""
PAUSE = 60
"""Seconds between two hastenings, whatever a device that comes and goes does."""
FEW = 3
"""Failures up to which work is hastened that failed on a device that seemed well: it may fail again."""
_RESCHEDULED = "tawara_hastened"
_MISSED, _SUSPECTS = "tawara_missed_dev", "tawara_doubted_dev"


@dataclass(frozen=True, slots=True)
class BlockedOn:
    """Which devices stood in the way of a unit of work."""

    missed: frozenset[int] = frozenset()
    """They could not be used."""
    suspects: frozenset[int] = frozenset()
    """They seemed well, and did not answer."""


NOBODY = BlockedOn()


@dataclass(frozen=True, slots=True)
class DeferralNote:
    """A row."""

    devid: int
    at: int
    seen: bool
    """Whether the device was seen to be unusable."""

    @property
    def field(self) -> str:
        """Its name."""
        return f"{_MISSED if self.seen else _SUSPECTS}{self.devid}"


async def note(tx: Transaction, blocked_on: BlockedOn, *, now: int) -> None:
    """Work is put off, in this transaction, for the sake of these devices."""
    upsert = tx.dialect.upsert("server_settings", ("field",), ("value",))
    fields = [f"{_SUSPECTS}{devid}" for devid in blocked_on.suspects - blocked_on.missed]
    fields += [f"{_MISSED}{devid}" for devid in blocked_on.missed]
    await tx.run_many(upsert, [(field, str(now)) for field in sorted(fields)])


def notes(settings: Mapping[str, str]) -> list[DeferralNote]:
    """The rows among the settings."""
    found = []
    for prefix, seen in ((_MISSED, True), (_SUSPECTS, False)):
        for field, value in settings.items():
            devid = field.removeprefix(prefix)
            if devid != field and devid.isdigit():
                found.append(DeferralNote(int(devid), runs.number(value), seen))
    return found


async def forget(tx: Transaction, known: Iterable[DeferralNote]) -> list[DeferralNote]:
    """Remove rows that are still as they were known to be; those that were."""
    remove = "DELETE FROM server_settings WHERE field = ? AND value = ?"
    return [each for each in known if await tx.run(remove, each.field, str(each.at))]


async def take_tick(tx: Transaction, well: Iterable[DeferralNote], *, now: int) -> list[DeferralNote]:
    """Take away the notes of devices that are well, so as to hasten what was put off for their sake.

    None if someone else has done that, or if anything was hastened a moment ago: then they stay.
    """
    last = runs.number(await cluster.get_setting(tx, _RESCHEDULED))
    if now - PAUSE < last <= now:
        return []
    gone = await forget(tx, well)
    if gone:
        await cluster.set_setting(tx, _RESCHEDULED, str(now))
    return gone
