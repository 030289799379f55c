"""Epochs: how it is known whether a database is the latest of its store, by marks that the devices carry.

A database counts epochs; each has a random token. A worker begins another epoch, durably in the database, before it
writes changes on any device, and marks the device with it. So a device never has a mark that the latest database does
not know. One that knows less was put back (a backup, a snapshot, a standby that had not got everything), and one that
knows another token for the same number is one of two databases that go on from the same state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

KEPT: Final = 64
"""How many of its last epochs a database remembers with their tokens."""
AHEAD: Final = 1_000_000
"""How many epochs are left out when a database takes in what others knew, so that it is ahead of every other."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """The mark on a device."""

    store: str
    """The id of the store, which stays the same whatever database it has."""
    number: int
    token: str


class Relation(StrEnum):
    """How a mark relates to a database."""

    KNOWN = "known"
    """The database was there, or has gone beyond."""
    LATER = "later"
    """The database is older than what was written on the device."""
    DIVERGED = "diverged"
    """Another database of the store has gone on from an earlier state of this one."""
    OTHER_STORE = "other store"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a database knows of its epochs."""

    store: str
    steps: tuple[tuple[int, str], ...]
    """Number and token of the last epochs, the newest first; there is at least one."""

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The inverse of str(); None for nothing, and for what makes no sense."""
        store, *steps = (text or "").split() or [""]
        pairs = [each.partition(":") for each in steps]
        if not pairs or not all(number.isdecimal() and token for number, _, token in pairs):
            return None
        return cls(store, tuple((int(number), token) for number, _, token in pairs))

    def __str__(self) -> str:
        return " ".join([self.store, *(f"{number}:{token}" for number, token in self.steps)])

    @property
    def current(self) -> Epoch:
        """The epoch that is going on."""
        return Epoch(self.store, *self.steps[0])

    def advanced(self, token: str, *, beyond: int = 0) -> Self:
        """With one more epoch, whose number is also greater than `beyond`."""
        step = (max(self.steps[0][0], beyond) + 1, token)
        return replace(self, steps=(step, *self.steps[: KEPT - 1]))

    def relation(self, mark: Epoch) -> Relation:
        """How a device's mark relates to this database. One that is older than what is remembered passes for known."""
        number, _ = self.steps[0]
        if mark.store != self.store:
            return Relation.OTHER_STORE
        if mark.number > number:
            return Relation.LATER
        token = dict(self.steps).get(mark.number)
        return Relation.DIVERGED if token not in (None, mark.token) else Relation.KNOWN


def relation(lineage: Lineage | None, mark: Epoch | None) -> Relation:
    """The same where the database may have no epoch yet, as before an upgrade, and the device no mark."""
    if mark is None:
        return Relation.KNOWN
    return Relation.LATER if lineage is None else lineage.relation(mark)


def explain(lineage: Lineage | None, mark: Epoch, devid: int) -> str:
    """Why a database does not fit a device's mark, as the part of a sentence."""
    has = f"dev{devid} carries epoch {mark.number}"
    match relation(lineage, mark):
        case Relation.DIVERGED:
            return f"{has} of another database of this store, which has gone on beside this one"
        case Relation.OTHER_STORE:
            return f"{has} of another store ({mark.store})"
        case _:
            known = lineage.current.number if lineage else "none"
            return f"{has}, and this database knows {known}: it was put back to an earlier state"
