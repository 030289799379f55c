"""Verbs about the tracker itself, and about deferred replication."""

from __future__ import annotations

import asyncio

from tawara.metadata import queues
from tawara.model import errors
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args

_SLEEP_UNLESS_TOLD = 10
_LONGEST_SLEEP = 3600


async def noop(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Do nothing."""
    return {}


async def test(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Do nothing; with `crash=1`, fail."""
    if call.flag("crash"):
        raise errors.TawaraError
    return {}


async def sleep(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Answer after `duration` seconds."""
    await asyncio.sleep(min(max(0, call.number("duration") or _SLEEP_UNLESS_TOLD), _LONGEST_SLEEP))
    return {}


async def clear_cache(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Refresh this tracker's view of the cluster: the database rows, and the observed state of the devices."""
    await tracker.view.renew()
    return {}


async def replicate_now(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Make all deferred replication due immediately; return the number of files."""
    count = await tracker.metadata.write(queues.replicate_now, now=await tracker.now())
    tracker.wakeups.replicate.notify()
    return {"count": count}
