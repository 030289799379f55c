"""Combines several policies: `Union(P1(…), P2(…))`, which MogileFS parses but never implemented
(docs/mogilefs.md 10.1)."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tawara.model.policy.results import (
    Copy,
    NoAnswer,
    OverReplicated,
    Policy,
    PolicyResult,
    Satisfied,
    Situation,
    is_content,
)


@dataclass(frozen=True, slots=True)
class Union:
    """Every part must be satisfied by the same set of copies.

    A part may have more copies than it wants because another part needs them; a copy is surplus only if all parts are
    satisfied without it.
    """

    parts: tuple[Policy, ...]

    def decide(self, situation: Situation, rng: random.Random) -> PolicyResult:
        """See Policy."""
        answers = [part.decide(situation, rng) for part in self.parts]
        copies = [each for each in answers if isinstance(each, Copy)]
        if copies:
            return _merge(copies)
        if any(isinstance(each, NoAnswer) for each in answers):
            return NoAnswer()
        if any(isinstance(each, OverReplicated) for each in answers) and self._has_removable_replica(situation, rng):
            return OverReplicated()
        return Satisfied()

    def _has_removable_replica(self, situation: Situation, rng: random.Random) -> bool:
        return any(
            all(is_content(part, less, rng) for part in self.parts)
            for less in map(situation.without_copy, sorted(situation.on))
        )


def _merge(copies: list[Copy]) -> Copy:
    """Merge the results of the parts that require a copy; devices that are ideal for more parts come first."""
    votes: dict[int, int] = {}
    for copy in copies:
        for devid in copy.ideal:
            votes[devid] = votes.get(devid, 0) + 1
    ideal = tuple(sorted(votes, key=votes.__getitem__, reverse=True))
    desperate = dict.fromkeys(devid for copy in copies for devid in copy.desperate if devid not in votes)
    return Copy(ideal, tuple(desperate))
