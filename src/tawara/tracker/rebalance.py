"""Verbs about rebalance, which moves files between devices (docs/mogilefs.md 5); the workers run it."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from tawara.metadata import rebalance
from tawara.model import errors
from tawara.model.rebalance import sources, targets
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args

_LONGEST_POLICY = 60_000


async def rebalance_set_policy(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Set the policy: which files are moved, and where."""
    text = call.text("policy")
    if len(text) > _LONGEST_POLICY or not text.isprintable():
        raise errors.BadRebalPol
    await tracker.metadata.write(rebalance.set_policy, text)
    await tracker.view.refresh()
    return {}


async def rebalance_test(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Return the devices from which the policy would move files now, and those to which it would move them."""
    cluster = await tracker.view.refresh()
    policy = await tracker.metadata.read(rebalance.policy)
    from_devices = sources(policy, cluster)
    return {"sdevs": _listed(from_devices), "ddevs": _listed(targets(policy, cluster, from_devices))}


def _listed(devids: Iterable[int]) -> str:
    return ",".join(map(str, devids))


async def rebalance_start(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Start a run, or continue a stopped one."""
    cluster = await tracker.view.refresh()
    state = await tracker.metadata.write(rebalance.start, cluster, host=socket.gethostname(), now=await tracker.now())
    await _notify_worker(tracker)
    return {"state": state}


async def rebalance_status(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Report the progress of the run."""
    return {"state": await tracker.metadata.read(rebalance.state)}


async def rebalance_stop(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Stop the run; moves in progress are finished."""
    await tracker.metadata.write(rebalance.stop)
    await _notify_worker(tracker)
    return {}


async def rebalance_reset(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Reset the position of the run."""
    await tracker.metadata.write(rebalance.reset)
    await tracker.view.refresh()
    return {}


async def _notify_worker(tracker: TrackerContext) -> None:
    """Refresh this process's view of the cluster, and notify its rebalance worker."""
    await tracker.view.refresh()
    tracker.wakeups.rebalance.notify()
