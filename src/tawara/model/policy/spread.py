"""The standard policies of MogileFS: a number of copies on different hosts, or only on different devices."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tawara.model.policy.results import Copy, NoAnswer, OverReplicated, PolicyResult, Satisfied, Situation, in_order


@dataclass(frozen=True, slots=True)
class MultipleHosts:
    """A number of copies on different hosts (docs/mogilefs.md 10.2).

    Differs from MogileFS in one case: a file with too many copies on too few hosts first gets a copy on another host,
    and surplus copies are deleted after that; MogileFS deletes first.
    """

    copies: int | None = None
    """How many; None means the class's mindevcount."""

    def decide(self, situation: Situation, rng: random.Random) -> PolicyResult:
        """See Policy."""
        wanted = self.copies or situation.mindevcount
        on = len(situation.on)
        if wanted == 1 and on == 1:
            return Satisfied()
        hosts_on, hosts_alive = situation.hosts_on, situation.hosts_alive
        spread = len(hosts_on) >= min(wanted, len(hosts_alive))
        if spread and (len(hosts_on) > wanted or on > wanted):
            return OverReplicated()
        if spread and on >= wanted:
            return Satisfied()
        if on >= 2 and on == situation.total_disks:
            return Satisfied()
        return _choose(situation, wanted, avoid_hosts=len(hosts_on) < len(hosts_alive), rng=rng)


@dataclass(frozen=True, slots=True)
class MultipleDevices:
    """A number of copies on different devices, on any hosts (docs/mogilefs.md 10.3)."""

    copies: int | None = None
    """How many; None means the class's mindevcount."""

    def decide(self, situation: Situation, rng: random.Random) -> PolicyResult:
        """See Policy."""
        wanted = self.copies or situation.mindevcount
        on = len(situation.on)
        if on > wanted:
            return OverReplicated()
        if on == wanted or (on >= 2 and on == situation.total_disks):
            return Satisfied()
        return _choose(situation, wanted, avoid_hosts=False, rng=rng)


def _choose(situation: Situation, wanted: int, *, avoid_hosts: bool, rng: random.Random) -> PolicyResult:
    used = situation.hosts_on if avoid_hosts else frozenset()
    return answer(situation, wanted, rng, situation.best_elsewhere(used), situation.best_on(used))


def answer(
    situation: Situation, wanted: int, rng: random.Random, ideal: list[int], *desperate: list[int]
) -> Copy | NoAnswer:
    """Copy to these devices, the better group first. With enough copies only an ideal device is used."""
    if not ideal and (len(situation.on) >= wanted or not any(desperate)):
        return NoAnswer()
    last = (devid for group in desperate for devid in in_order(situation, group, rng))
    return Copy(in_order(situation, ideal, rng), tuple(last))
