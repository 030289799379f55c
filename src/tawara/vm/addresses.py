"""Assigns addresses to a cluster's guests, which stay the same when guests are added or removed. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from ipaddress import IPv4Address

Given = Mapping[str, Mapping[str, IPv4Address]]
"""By network and guest: every address that was ever given."""


def assign(
    candidates: Mapping[str, IPv4Address],
    first: IPv4Address,
    last: IPv4Address,
    given: Mapping[str, IPv4Address],
    taken: Set[IPv4Address],
) -> dict[str, IPv4Address]:
    """Assign an address within first and last to each guest of `candidates`, in their order. A guest keeps its earlier
    address. A new one gets its candidate or, if that is another's, the lowest free one; those of former guests are
    reused only when no other is left. `taken`: addresses in the description. A guest without an available address is
    left out."""
    found = {
        guest: given[guest]
        for guest in candidates
        if guest in given and first <= given[guest] <= last and given[guest] not in taken
    }
    used = {*taken, *found.values()}
    former = {ip for guest, ip in given.items() if guest not in candidates}
    for guest in (each for each in candidates if each not in found):
        room = [candidates[guest], *_range(first, last)]
        fitting = (ip for ip in room if first <= ip <= last and ip not in used)
        choice = next((ip for ip in fitting if ip not in former), None) or next(
            (ip for ip in room if first <= ip <= last and ip not in used), None
        )
        if choice is not None:
            found[guest] = choice
            used.add(choice)
    return {guest: found[guest] for guest in candidates if guest in found}


def addresses_to_keep(given: Given, now: Given) -> dict[str, dict[str, IPv4Address]]:
    """Return the addresses to keep: all current ones, and those of former guests unless another guest has them now."""
    whole: dict[str, dict[str, IPv4Address]] = {}
    for network in sorted({*given, *now}):
        current = now.get(network, {})
        used = set(current.values())
        former = {guest: ip for guest, ip in given.get(network, {}).items() if ip not in used}
        whole[network] = dict(sorted((former | dict(current)).items()))
    return whole


def _range(first: IPv4Address, last: IPv4Address) -> list[IPv4Address]:
    return [first + number for number in range(int(last) - int(first) + 1)]
