"""Tawara's own verbs about the state of the store: safety of the files, queues, and rates of the workers."""

from __future__ import annotations

from dataclasses import fields

from tawara.metadata import backlog, certificates
from tawara.metadata import pace as paces
from tawara.model import errors, pace
from tawara.model.safety import Tally
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_GROUPS = 5000
"""Maximum number of groups of files in one answer."""


async def tawara_status(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Report the numbers of files at risk, the queues, and the workers' rates; `recount` counts the files first."""
    counts = await tracker.counter.counts(recount=call.flag("recount"))
    safety, uncounted = await tracker.counter.safety(counts)
    now = await tracker.now()
    reply: dict[str, Value] = {
        "now": now,
        "counted_at": counts.at,
        "counting": int(not counts.complete),
        "changed_devices": uncounted,
        "files": safety.files,
        "bytes": safety.bytes,
    }
    if tracker.cluster.stale:
        reply["stale"] = errors.StaleDatabase.because(tracker.cluster.stale).message
    for each in fields(safety):
        value = getattr(safety, each.name)
        if isinstance(value, Tally):
            reply[f"{each.name}_files"], reply[f"{each.name}_bytes"] = value.files, value.bytes
        elif isinstance(value, dict):
            reply[each.name] = ",".join(f"{number}:{files}" for number, files in sorted(value.items()))
    return reply | await _queues(tracker, now) | await _work(tracker, now) | await _certificates(tracker, now)


async def _certificates(tracker: TrackerContext, now: int) -> dict[str, Value]:
    found = await tracker.metadata.read(certificates.load, now=now)
    reply: dict[str, Value] = {"certificates": len(found)}
    for number, each in enumerate(found, 1):
        reply[f"certificate{number}_listener"] = each.listener
        reply[f"certificate{number}_expires"] = each.expires
    return reply


async def _queues(tracker: TrackerContext, now: int) -> dict[str, Value]:
    found = await tracker.metadata.read(backlog.queues, now=now)
    reply: dict[str, Value] = {"queues": len(found)}
    for number, queue in enumerate(found, 1):
        for each in fields(queue):
            reply[f"queue{number}_{each.name}"] = getattr(queue, each.name)
    return reply


async def _work(tracker: TrackerContext, now: int) -> dict[str, Value]:
    known = await tracker.metadata.read(paces.load)
    names = sorted({each.work for each in known})
    reply: dict[str, Value] = {
        "processes": len({each.process for each in pace.alive(known, now)}),
        "works": len(names),
    }
    for number, name in enumerate(names, 1):
        capacity = pace.capacity(known, name, now)
        reply[f"work{number}_name"] = name
        reply[f"work{number}_rate"] = f"{pace.rate(known, name, now):.3f}"
        reply[f"work{number}_capacity"] = "" if capacity is None else f"{capacity:.3f}"
    return reply


async def tawara_placement(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Report the groups of files by their devices, after the first `after`; `recount` counts the files first.

    If there are too many groups to be kept, only groups of files on one of the `devids` are returned, with `partial`.
    A group whose domain or class no longer exists has no name for it.
    """
    counts = await tracker.counter.counts(recount=call.flag("recount"))
    groups = counts.groups
    partial = groups is None
    if groups is None:
        groups = await tracker.counter.about([int(each) for each in call.text("devids").split(",") if each.isdecimal()])
    after = call.bounded("after")
    shown = groups[after : after + _GROUPS]
    reply: dict[str, Value] = {"counted_at": counts.at, "all_groups": len(groups), "groups": len(shown)}
    if partial:
        reply["partial"] = 1
    domains = tracker.cluster.domains_by_id
    for number, group in enumerate(shown, 1):
        domain = domains.get(group.dmid)
        storage_class = domain.classes.get(group.classid) if domain else None
        reply |= {
            f"group{number}_domain": domain.name if domain else "",
            f"group{number}_class": storage_class.name if storage_class else "",
            f"group{number}_devids": ",".join(map(str, group.devids)),
            f"group{number}_files": group.files,
            f"group{number}_bytes": group.bytes,
        }
    return reply
