"""Applies a policy: picks the devices of a new file, and the surplus copy of a file with too many."""

from __future__ import annotations

import random
from collections.abc import Iterable

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
) -> tuple[int, ...]:
    """The devices on which a file of `size` bytes is to be written so that its class is satisfied, best first.

    As many as can be had now. A writer that saw some fail asks again, with `on` (written) and `failed`, and gets what
    is then still wanted, which may be nothing. Raises NoDevices if the file is and can be nowhere, InvalidReplpolicy.
    """
    policy = parse(storage_class.policy)
    situation = Situation.of(cluster, on, storage_class.mindevcount, failed=failed, size=size)
    chosen: list[int] = []
    while isinstance(answer := policy.decide(situation, rng), Copy) and answer.choices:
        chosen.append(answer.choices[0])
        situation = situation.with_copy(chosen[-1])
    if not situation.on:
        raise NoDevices
    return tuple(chosen)


def can_place(cluster: Cluster, storage_class: StorageClass, rng: random.Random) -> bool:
    """Whether `plan_destinations` would find any device for a new file of no size. Raises InvalidReplpolicy."""
    known = cluster.can_place.get(storage_class)
    if known is None:
        answer = parse(storage_class.policy).decide(Situation.of(cluster, (), storage_class.mindevcount), rng)
        known = cluster.can_place[storage_class] = isinstance(answer, Copy) and bool(answer.choices)
    return known


def pick_surplus(policy: Policy, situation: Situation, rng: random.Random) -> int | None:
    """The replica to delete of a file with too many: one that the policy does not miss. None if there is none now.

    The policy has to be content with what is left and can be read at this moment: a device that does not answer may
    never come back. Copies on draining devices go first, then those on the fullest.
    """
    cluster = situation.cluster
    unreadable = [devid for devid in situation.on if not cluster.should_read_from(devid)]
    readable = situation
    for devid in unreadable:
        readable = readable.without_copy(devid)

    def how_welcome(devid: int) -> tuple[bool, float, int]:
        device = cluster.devices[devid]
        return device.state is not DeviceState.DRAIN, device.percent_free, devid

    for devid in sorted(readable.on, key=how_welcome):
        if (
            cluster.can_delete_from(devid)
            and cluster.is_writeable(devid)
            and len(readable.on) > 1
            and is_content(policy, readable.without_copy(devid), rng)
        ):
            return devid
    return None
