"""Applies a policy: picks the devices of a new file, and the surplus copy of a file with too many."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from tawara.model.cluster import Cluster, DeviceState, StorageClass
from tawara.model.errors import NoDevices
from tawara.model.policy.results import Copy, Policy, Situation, is_content
from tawara.model.policy.text import parse


def plan_destinations(
    cluster: Cluster,
    storage_class: StorageClass,
    size: int,
    rng: random.Random,
    *,
    on: Iterable[int] = (),
    failed: Iterable[int] = (),
    preferred: Iterable[int] = (),
) -> tuple[int, ...]:
    """Return the devices to write a file of `size` bytes to so that its class is satisfied, best first.

    The list may be too short if devices are missing. After failed writes the writer calls again with `on` (written) and
    `failed`, and gets the devices still needed, possibly none. `preferred` devices are taken where they help as much as
    any other: they hold what the file is made of. Raises NoDevices if no copy exists or is possible, InvalidReplpolicy.
    """
    policy = parse(storage_class.policy)
    situation = Situation.of(cluster, on, storage_class.mindevcount, failed=failed, size=size)
    chosen: list[int] = []
    while isinstance(answer := policy.decide(situation, rng), Copy) and answer.choices:
        better = (devid for devid in preferred if _is_ideal(policy, situation, devid, rng))
        chosen.append(next(better, answer.choices[0]))
        situation = situation.with_copy(chosen[-1])
    if not situation.on:
        raise NoDevices
    return tuple(chosen)


def _is_ideal(policy: Policy, situation: Situation, devid: int, rng: random.Random) -> bool:
    """Whether a copy on the device helps to satisfy the policy now; asked as if no other device could take one."""
    if devid in situation.on or devid in situation.failed:
        return False
    others = frozenset(situation.cluster.devices) - {devid}
    answer = policy.decide(replace(situation, failed=situation.failed | others), rng)
    return isinstance(answer, Copy) and devid in answer.ideal


def can_place(cluster: Cluster, storage_class: StorageClass, rng: random.Random) -> bool:
    """Whether `plan_destinations` would find a device for a new empty file. Raises InvalidReplpolicy."""
    known = cluster.can_place.get(storage_class)
    if known is None:
        answer = parse(storage_class.policy).decide(Situation.of(cluster, (), storage_class.mindevcount), rng)
        known = cluster.can_place[storage_class] = isinstance(answer, Copy) and bool(answer.choices)
    return known


def pick_surplus(policy: Policy, situation: Situation, rng: random.Random) -> int | None:
    """Choose a replica to delete that the policy does not require; None without one.

    The policy must be satisfied by the remaining replicas that can be read now, since an unreachable device may never
    return. Copies on draining devices are preferred, then those on the fullest devices.
    """
    cluster = situation.cluster
    unreadable = [devid for devid in situation.on if not cluster.should_read_from(devid)]
    readable = situation
    for devid in unreadable:
        readable = readable.without_copy(devid)

    def rank(devid: int) -> tuple[bool, float, int]:
        device = cluster.devices[devid]
        return device.state is not DeviceState.DRAIN, device.percent_free, devid

    for devid in sorted(readable.on, key=rank):
        if (
            cluster.can_delete_from(devid)
            and cluster.is_writeable(devid)
            and len(readable.on) > 1
            and is_content(policy, readable.without_copy(devid), rng)
        ):
            return devid
    return None
