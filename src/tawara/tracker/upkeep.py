"""The verbs about the tracker itself, and the work that waits."""

from __future__ import annotations

import asyncio

from tawara.metadata import queues
from tawara.model import errors
from tawara.tracker.context import Call, Tracker
from tawara.wire.line import Args

_SLEEP_UNLESS_TOLD = 10
_LONGEST_SLEEP = 3600


async def noop(tracker: Tracker, call: Call) -> Args:
    """Nothing."""
    return {}


async def test(tracker: Tracker, call: Call) -> Args:
    """Nothing either; `crash=1` fails."""
    if call.flag("crash"):
        raise errors.TawaraError
    return {}


async def sleep(tracker: Tracker, call: Call) -> Args:
    """Answer `duration` seconds later."""
    await asyncio.sleep(min(max(0, call.number("duration") or _SLEEP_UNLESS_TOLD), _LONGEST_SLEEP))
    return {}


async def clear_cache(tracker: Tracker, call: Call) -> Args:
    """Bring what this tracker knows of the cluster up to date: the rows, and what can be seen of the devices."""
    await tracker.view.renew()
    return {}


async def replicate_now(tracker: Tracker, call: Call) -> Args:
    """Make all replication that was put off due at once; how many files."""
    count = await tracker.metadata.write(queues.replicate_now, now=await tracker.now())
    tracker.bells.replicate.ring()
    return {"count": count}
