"""Epochs: detect a database that is not the latest of its store, by marks on the devices.

A database counts epochs; each has a random token. Before a worker writes changes to any device, it begins a new epoch,
durably in the database, and marks the device with it. So the latest database knows every mark. A database that does not
know a mark was restored to an earlier state (from a backup, a snapshot or a lagging standby). A database with another
token for the same number has diverged: two databases continued from the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

KEPT: Final = 64
"""Number of recent epochs whose tokens a database keeps."""
AHEAD: Final = 1_000_000
"""Epochs skipped when a database merges the changes of others, so that its epoch is higher than all of theirs."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch mark, as stored on a device."""

    store: str
    """Id of the store; kept when its database is replaced."""
    number: int
    token: str


class Relation(StrEnum):
    """Relation of a mark to a database."""

    KNOWN = "known"
    """The database has reached this epoch."""
    LATER = "later"
    """The database is older than the data on the device."""
    DIVERGED = "diverged"
    """Another database of the store continued from an earlier state of this one."""
    OTHER_STORE = "other store"


@dataclass(frozen=True, slots=True)
class Lineage:
    """The recent epochs of a database."""

    store: str
    steps: tuple[tuple[int, str], ...]
    """Number and token of the last epochs, newest first; at least one."""

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """Parse the output of `str`; None if missing or malformed."""
        store, *steps = (text or "").split() or [""]
        pairs = [each.partition(":") for each in steps]
        if not pairs or not all(number.isdecimal() and token for number, _, token in pairs):
            return None
        return cls(store, tuple((int(number), token) for number, _, token in pairs))

    def __str__(self) -> str:
        return " ".join([self.store, *(f"{number}:{token}" for number, token in self.steps)])

    @property
    def current(self) -> Epoch:
        """The current epoch."""
        return Epoch(self.store, *self.steps[0])

    def advanced(self, token: str, *, beyond: int = 0) -> Self:
        """Return the lineage with a new epoch, whose number is also greater than `beyond`."""
        step = (max(self.steps[0][0], beyond) + 1, token)
        return replace(self, steps=(step, *self.steps[: KEPT - 1]))

    def relation(self, mark: Epoch) -> Relation:
        """Relate a device's mark to this database. A mark older than the kept epochs counts as known."""
        number, _ = self.steps[0]
        if mark.store != self.store:
            return Relation.OTHER_STORE
        if mark.number > number:
            return Relation.LATER
        token = dict(self.steps).get(mark.number)
        return Relation.DIVERGED if token not in (None, mark.token) else Relation.KNOWN


def relation(lineage: Lineage | None, mark: Epoch | None) -> Relation:
    """Relate a mark to a database; both may be missing, as before an upgrade."""
    if mark is None:
        return Relation.KNOWN
    return Relation.LATER if lineage is None else lineage.relation(mark)


def explain(lineage: Lineage | None, mark: Epoch, devid: int) -> str:
    """Describe the mismatch between a database and a device's mark, as part of a sentence."""
    has = f"dev{devid} carries epoch {mark.number}"
    match relation(lineage, mark):
        case Relation.DIVERGED:
            return f"{has} of another database of this store, which has gone on beside this one"
        case Relation.OTHER_STORE:
            return f"{has} of another store ({mark.store})"
        case _:
            known = lineage.current.number if lineage else "none"
            return f"{has}, and this database knows {known}: it was put back to an earlier state"
