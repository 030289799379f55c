"""The policies of MogileFS-Network: copies in different network zones, or a number in each zone
(docs/mogilefs.md 10.4, 10.5)."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from tawara.model.policy.results import Copy, NoAnswer, OverReplicated, PolicyResult, Satisfied, Situation, in_order
from tawara.model.policy.spread import answer


@dataclass(frozen=True, slots=True)
class MultipleNetworks:
    """Copies in as many different zones as possible, then on different hosts (docs/mogilefs.md 10.4)."""

    copies: int | None = None
    """Number of copies; None means the class's mindevcount."""

    def decide(self, situation: Situation, rng: random.Random) -> PolicyResult:
        """See Policy."""
        wanted = self.copies or situation.mindevcount
        on = len(situation.on)
        if wanted == 1 and on >= 1:
            return Satisfied()
        if on >= 2 and on == situation.total_disks:
            return Satisfied()
        zones = situation.cluster.zones
        zones_on = {zones[devid] for devid in situation.on}
        in_zones = len(zones_on) >= min(wanted, len({zones[devid] for devid in situation.alive}))
        hosts_on, hosts_alive = situation.hosts_on, situation.hosts_alive
        on_hosts = len(hosts_on) >= min(wanted, len(hosts_alive))
        if in_zones and on_hosts and (len(hosts_on) > wanted or on > wanted):
            return OverReplicated()
        if in_zones and on_hosts and on >= wanted:
            return Satisfied()
        ideal, other_host, same_host = list[int](), list[int](), list[int]()
        for devid in situation.candidates:
            if situation.host(devid) in hosts_on and len(hosts_on) < len(hosts_alive):
                same_host.append(devid)
            elif zones[devid] in zones_on and not in_zones:
                other_host.append(devid)
            else:
                ideal.append(devid)
        return answer(situation, wanted, rng, ideal, other_host, same_host)


@dataclass(frozen=True, slots=True)
class HostsPerNetwork:
    """A number of hosts with a copy in each of the named zones; the class's mindevcount is ignored
    (docs/mogilefs.md 10.5).

    In a zone with fewer hosts, the same number of devices suffices. Copies in other zones are surplus.
    """

    wanted: tuple[tuple[str, int], ...]
    """(zone, number of hosts)"""

    def decide(self, situation: Situation, rng: random.Random) -> PolicyResult:
        """See Policy."""
        zones = situation.cluster.zones
        devices_on = Counter(zones[devid] for devid in situation.on)
        hosts_on = Counter(zone for zone, _ in {(zones[devid], situation.host(devid)) for devid in situation.on})
        hosts = Counter(zone for zone, _ in {(zones[devid], situation.host(devid)) for devid in situation.alive})
        lacking = {
            zone
            for zone, number in self.wanted
            if devices_on[zone] < number or hosts_on[zone] < min(number, hosts[zone])
        }
        if not lacking:
            asked = dict(self.wanted)
            return (
                OverReplicated() if any(devices_on[zone] > asked.get(zone, 0) for zone in devices_on) else Satisfied()
            )
        used = situation.hosts_on
        candidates = [devid for devid in situation.candidates if zones[devid] in lacking]
        ideal = [devid for devid in candidates if situation.host(devid) not in used]
        desperate = [
            devid
            for devid in candidates
            if situation.host(devid) in used and devices_on[zones[devid]] < dict(self.wanted)[zones[devid]]
        ]
        if not ideal and not desperate:
            return NoAnswer()
        return Copy(in_order(situation, ideal, rng), in_order(situation, desperate, rng))
