"""The verbs about the tracker itself, and the work that waits."""

from __future__ import annotations

import asyncio

from tawara.metadata import queues
from tawara.model import errors
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args

_SLEEP_UNLESS_TOLD = 10
_LONGEST_SLEEP = 3600


async def noop(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Nothing."""
    return {}


async def test(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Nothing either; `crash=1` fails."""
    if call.flag("crash"):
        raise errors.TawaraError
    return {}


async def sleep(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Answer `duration` seconds later."""
    await asyncio.sleep(min(max(0, call.number("duration") or _SLEEP_UNLESS_TOLD), _LONGEST_SLEEP))
    return {}


async def clear_cache(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Bring what this tracker knows of the cluster up to date: the rows, and what can be seen of the devices."""
    await tracker.view.renew()
    return {}


async def replicate_now(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Make all replication that was put off due at once; how many files."""
    count = await tracker.metadata.write(queues.replicate_now, now=await tracker.now())
    tracker.wakeups.replicate.notify()
    return {"count": count}
