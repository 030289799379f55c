"""Checks whether a history of concurrent calls is linearizable. It is if the calls have an order in which a call that
ended before another one started comes first, and each result is correct at its position. A call whose reply was lost
may have any position after its start, or no effect at all. Everything here is pure."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeAlias


class Verb(Enum):
    """A kind of request."""

    CLOSE = "create_close"
    DELETE = "delete"
    RENAME = "rename"
    CLASS = "updateclass"
    INFO = "file_info"
    PATHS = "get_paths"


class Status(Enum):
    """A result without a value."""

    DONE = "done"
    UNKNOWN_KEY = "there is no such key"
    KEY_EXISTS = "the new key is taken"
    LOST = "no answer, or one that leaves it open"


NEVER = 1 << 60
"""The end of a call whose answer was lost."""


@dataclass(frozen=True)
class File:
    """The file that a key refers to."""

    fid: int
    storage_class: str


Answer: TypeAlias = Status | File | int


@dataclass(frozen=True)
class Call:
    """One call and its result. `began` and `ended` are from one clock."""

    verb: Verb
    key: str
    began: int
    ended: int
    answer: Answer
    """A File for INFO, the fid for PATHS, either of them UNKNOWN_KEY if there is none; otherwise a Status."""
    target: str = ""
    """The new key of a RENAME."""
    file: File | None = None
    """The file that a CLOSE stores."""
    storage_class: str = ""
    """The new class of a CLASS."""

    def __str__(self) -> str:
        what = {Verb.CLOSE: self.file, Verb.RENAME: self.target, Verb.CLASS: self.storage_class}.get(self.verb, "")
        ended = self.ended if self.ended < NEVER else ""
        return f"{self.began:5} {ended:5} {self.verb.value} {self.key} {what}: {self.answer}"


State: TypeAlias = Mapping[str, File]


def after(state: State, call: Call) -> State | None:
    """The state after `call`; None if its result is impossible. A call with a lost reply did what it could."""
    now = state.get(call.key)
    lost = call.answer is Status.LOST
    if call.verb is Verb.INFO:
        return state if lost or call.answer == (now or Status.UNKNOWN_KEY) else None
    if call.verb is Verb.PATHS:
        return state if lost or call.answer == (now.fid if now else Status.UNKNOWN_KEY) else None
    changed, right = _change(state, now, call)
    return changed if lost or call.answer is right else None


def _change(state: State, now: File | None, call: Call) -> tuple[State, Status]:
    """The state after a change, and the correct result."""
    if call.verb is Verb.CLOSE:
        assert call.file is not None
        return {**state, call.key: call.file}, Status.DONE
    if now is None:
        return state, Status.UNKNOWN_KEY
    if call.verb is Verb.CLASS:
        return {**state, call.key: File(now.fid, call.storage_class)}, Status.DONE
    if call.verb is Verb.RENAME and call.target in state:
        return state, Status.KEY_EXISTS
    without = {key: file for key, file in state.items() if key != call.key}
    return ({**without, call.target: now} if call.verb is Verb.RENAME else without), Status.DONE


class TooLong(Exception):
    """The history cannot be checked with reasonable effort."""


def explained(calls: Sequence[Call], *, effort: int = 300_000) -> bool:
    """Whether there is an order that explains all results, from an empty store on. Raises TooLong. A depth-first search
    over (placed calls, state), each tried once. Calls that fit and never change anything are placed at once, which
    cannot be wrong; changes are branched on, lost ones last."""
    calls = sorted(calls, key=lambda call: (call.began, call.ended))
    needed = sum(1 << place for place, call in enumerate(calls) if call.answer is not Status.LOST)
    todo: list[tuple[int, State]] = [(0, {})]
    seen: set[tuple[int, Any]] = set()
    while todo:
        placed, state = todo.pop()
        placed, changes = _place_what_changes_nothing(calls, placed, state)
        if placed & needed == needed:
            return True
        signature = (placed, frozenset(state.items()))
        if signature in seen:
            continue
        seen.add(signature)
        if len(seen) > effort:
            raise TooLong
        todo += [(placed | 1 << place, changed) for place, changed in changes]
    return False


def refuted_by(calls: Sequence[Call]) -> Call | None:
    """The first call, by the time of its end, whose result makes the history impossible; None if there is none."""
    answered = sorted((call for call in calls if call.answer is not Status.LOST), key=lambda call: call.ended)

    def impossible(count: int) -> bool:
        until = answered[count - 1].ended if count else 0
        known = [call if call.ended <= until else replace(call, answer=Status.LOST, ended=NEVER) for call in calls]
        return not explained([call for call in known if call.began <= until])

    place = bisect.bisect_left(range(len(answered) + 1), True, key=impossible)
    return answered[place - 1] if place <= len(answered) else None


def _place_what_changes_nothing(
    calls: Sequence[Call], placed: int, state: State
) -> tuple[int, list[tuple[int, State]]]:
    """`placed` with all calls that may come next and leave `state` unchanged; the possible changes, in the order to try
    them."""
    while True:
        before = placed
        changes: list[tuple[int, State]] = []
        first_end = NEVER
        first_open = (~placed & (placed + 1)).bit_length() - 1
        for place in range(first_open, len(calls)):
            call = calls[place]
            if call.began > first_end:
                break
            if placed >> place & 1:
                continue
            first_end = min(first_end, call.ended)
            changed = after(state, call)
            if changed is None:
                continue
            if call.answer in (Status.DONE, Status.LOST):
                changes.append((place, changed))  # also where it changes nothing: its place may be after other changes
            else:
                placed |= 1 << place
        if placed == before:
            return placed, sorted(changes, key=lambda each: -calls[each[0]].ended)
