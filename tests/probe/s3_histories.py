"""Checks whether concurrent S3 requests to one key are linearizable: they have an order in which a request that ended
before another one began comes first, and each answer is right at its position. A request whose answer was lost may have
any position after its start, or no effect. Everything here is pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from tests.probe.histories import NEVER, TooLong


class S3Verb(Enum):
    """A kind of request."""

    WRITE = "PUT or completion"
    DELETE = "DELETE"
    READ = "GET"


class S3Result(Enum):
    """An answer without a value."""

    DONE = "done"
    ABSENT = "there is no object"
    FAILED = "a condition does not hold"
    LOST = "no answer, or one that leaves it open"


@dataclass(frozen=True)
class S3Call:
    """One request to the key, and its answer. `began` and `ended` are from one clock."""

    verb: S3Verb
    began: int
    ended: int
    answer: S3Result | str
    """The content for a READ that found one."""
    content: str = ""
    """What a WRITE stores; unique."""
    only_new: bool = False
    """WRITE: if there is no object."""
    only_over: str = ""
    """WRITE: if the object has this content."""

    @property
    def lost(self) -> bool:
        """Whether the answer is unknown."""
        return self.answer is S3Result.LOST


def after(state: str | None, call: S3Call) -> tuple[str | None, S3Result | str]:
    """The content after a request, and the right answer; `state` is the content before it, None for no object."""
    if call.verb is S3Verb.READ:
        return state, S3Result.ABSENT if state is None else state
    if call.verb is S3Verb.DELETE:
        return None, S3Result.DONE
    if call.only_new and state is not None:
        return state, S3Result.FAILED
    if call.only_over and state is None:
        return state, S3Result.ABSENT
    if call.only_over and state != call.only_over:
        return state, S3Result.FAILED
    return call.content, S3Result.DONE


def explained(calls: Sequence[S3Call], *, effort: int = 300_000) -> bool:
    """Whether there is an order that explains all answers, from no object on. Raises TooLong."""
    calls = sorted(calls, key=lambda call: (call.began, call.ended))
    needed = sum(1 << place for place, call in enumerate(calls) if not call.lost)
    todo: list[tuple[int, str | None]] = [(0, None)]
    seen: set[tuple[int, str | None]] = set()
    while todo:
        placed, state = todo.pop()
        if placed & needed == needed:
            return True
        if (placed, state) in seen:
            continue
        seen.add((placed, state))
        if len(seen) > effort:
            raise TooLong
        first_end = NEVER
        for place, call in enumerate(calls):
            if call.began > first_end:
                break
            if placed >> place & 1:
                continue
            first_end = min(first_end, call.ended)
            changed, right = after(state, call)
            if call.lost or call.answer == right:
                todo.append((placed | 1 << place, changed))
    return False
