"""The rebalance: its policy, its progress, and the scheduling of moves (docs/mogilefs.md 13).

The rows are MogileFS's, so that MogileFS trackers on the same database show the run as their own. A source device is in
state `drain` until its last move has ended; a device that the operator had drained before stays in that state. Each
function is one transaction; times are unix seconds.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from tawara.metadata import queues, runs
from tawara.metadata.contract import Transaction
from tawara.metadata.runs import number
from tawara.model import rebalance as model
from tawara.model.cluster import Cluster
from tawara.model.errors import NoRebalPolicy, NoRebalState, NoSetRebal, RebalNotStarted, RebalRunning
from tawara.model.files import TaskType
from tawara.model.rebalance import RebalancePolicy, RebalanceState

RATE = 2000
"""Most moves queued in one tick; the setting queue_rate_for_rebal overrides it."""
QUEUE = 10_000
"""Most moves waiting; the setting queue_size_for_rebal overrides it."""

_DRAINED = "tawara_rebal_drained"
"""Setting: the device that the rebalance, not the operator, put into state `drain`."""


# --- starting and stopping --------------------------------------------------------------------------------------------


async def set_policy(tx: Transaction, text: str) -> None:
    """Set the policy, and discard an earlier run. Raises NoSetRebal, BadRebalPol."""
    found = await runs.lock(tx, "rebal_")
    if found.get("rebal_host"):
        raise NoSetRebal("cannot change rebalance policy while rebalance is running")
    model.parse(text)
    await runs.set_all(tx, {"rebal_policy": text, "rebal_state": None})


async def policy(tx: Transaction) -> RebalancePolicy:
    """Return the policy that was set. Raises NoRebalPolicy, BadRebalPol."""
    text = (await runs.settings(tx, "rebal_")).get("rebal_policy")
    if not text:
        raise NoRebalPolicy
    return model.parse(text)


async def start(tx: Transaction, cluster: Cluster, *, host: str, now: int) -> str:
    """Start a run, or resume a stopped one; return its state. Raises RebalRunning, FsckRunning, NoRebalPolicy."""
    found = await runs.lock(tx, "rebal_")
    await runs.refuse_others(tx, starting="rebalance")
    text = found.get("rebal_state")
    state = RebalanceState.parse(text) if text else model.begin(await policy(tx), cluster, now=now)
    state = replace(state, time_stopped=0)
    await runs.set_all(tx, {"rebal_state": str(state), "rebal_host": host, "rebal_signal": None})
    return str(state)


async def stop(tx: Transaction) -> None:
    """Request that the run stops at its next tick. Raises RebalNotStarted."""
    found = await runs.lock(tx, "rebal_")
    if not found.get("rebal_host"):
        raise RebalNotStarted
    await runs.set_all(tx, {"rebal_signal": "stop"})


async def reset(tx: Transaction) -> None:
    """Discard a run that was stopped or has ended. Raises RebalRunning."""
    found = await runs.lock(tx, "rebal_")
    if found.get("rebal_host"):
        raise RebalRunning("rebalance is running")
    await runs.set_all(tx, {"rebal_state": None})


async def state(tx: Transaction) -> str:
    """Return the state of the current or the last run. Raises NoRebalState."""
    text = (await runs.settings(tx, "rebal_")).get("rebal_state")
    if not text:
        raise NoRebalState
    return text


# --- scheduling -------------------------------------------------------------------------------------------------------


async def inject(tx: Transaction, cluster: Cluster, rng: Random, *, now: int) -> bool:
    """Queue the next moves if a run is active and a tick is due; return False if none is active any more.

    `cluster` holds the observations by which targets are chosen; device states are changed in the database.
    """
    found = await runs.lock(tx, "")
    if not found.get("rebal_host"):
        return False
    stopping = found.get("rebal_signal") == "stop"
    if not await runs.take_tick(tx, "rebal", now=now) and not stopping:
        return True
    chosen = model.parse(found.get("rebal_policy", ""))
    was = found.get("rebal_state")
    at = RebalanceState.parse(was) if was else model.begin(chosen, cluster, now=now)
    if stopping:
        at = model.cancel_moves(chosen, at, await queues.cancel_tasks(tx, TaskType.MOVE, now=now))
        await _restore_state(tx, chosen, at.sdev_current)
        await _end(tx, replace(at, time_stopped=now))
        return False
    space = number(found.get("queue_size_for_rebal")) or QUEUE
    space -= await queues.count_tasks(tx, TaskType.MOVE)
    moved = await _queue_moves(
        tx, chosen, at, cluster, rng, space=space, rate=number(found.get("queue_rate_for_rebal")) or RATE, now=now
    )
    if moved is None:
        await _end(tx, replace(at, time_finished=now))
        return False
    await runs.set_all(tx, {"rebal_state": str(moved)})
    return True


async def _end(tx: Transaction, at: RebalanceState) -> None:
    await runs.set_all(tx, {"rebal_state": str(at), "rebal_host": None, "rebal_signal": None})


async def _queue_moves(
    tx: Transaction,
    chosen: RebalancePolicy,
    at: RebalanceState,
    cluster: Cluster,
    rng: Random,
    *,
    space: int,
    rate: int,
    now: int,
) -> RebalanceState | None:
    """Queue the next moves; return the new state, None if the run is complete."""
    if not at.sdev_current:
        begun = model.next_source(chosen, at)
        if begun is None:
            return None
        at = begun
    if not cluster.can_delete_from(at.sdev_current):  # the operator took it out of service
        return await _source_done(tx, chosen, at)
    targets = model.targets(chosen, cluster, at.all_sources)
    limit = min(space, rate)
    if not targets or limit <= 0 or not cluster.should_read_from(at.sdev_current):
        return model.idle_tick(at, now=now)
    await _drain(tx, at.sdev_current)  # only once a target for its files exists
    files = await next_files(tx, chosen, at, limit)
    after, moves = model.choose(chosen, at, files, targets, rng, now=now)
    if moves:
        items = [(move.fid, move.source, ",".join(map(str, move.targets))) for move in moves]
        await queues.enqueue_tasks(tx, TaskType.MOVE, items, now=now)
    elif (not files or model.limit_reached(chosen, after)) and not await _moving_from(tx, at.sdev_current):
        return await _source_done(tx, chosen, after)
    return after


async def next_files(tx: Transaction, chosen: RebalancePolicy, at: RebalanceState, limit: int) -> list[tuple[int, int]]:
    """Return the source's next files in the run's order, as (fid, bytes)."""
    select = "SELECT o.fid, f.length FROM file_on o JOIN file f ON f.fid = o.fid WHERE o.devid = ?"
    if not chosen.newest_first:
        rows = await tx.rows(f"{select} AND o.fid > ? ORDER BY o.fid LIMIT ?", at.sdev_current, at.sdev_lastfid, limit)
    else:
        before = at.sdev_lastfid or 2**63 - 1
        rows = await tx.rows(f"{select} AND o.fid < ? ORDER BY o.fid DESC LIMIT ?", at.sdev_current, before, limit)
    return [(row[0], row[1]) for row in rows]


async def _moving_from(tx: Transaction, devid: int) -> bool:
    kind = int(TaskType.MOVE)
    return await tx.row("SELECT 1 FROM file_to_queue WHERE type = ? AND devid = ? LIMIT 1", kind, devid) is not None


async def _drain(tx: Transaction, devid: int) -> None:
    """Set the device to `drain`, so that it gets no new files."""
    if await tx.run("UPDATE device SET status = 'drain' WHERE devid = ? AND status = 'alive'", devid):
        await runs.set_all(tx, {_DRAINED: devid})


async def _restore_state(tx: Transaction, chosen: RebalancePolicy, devid: int) -> None:
    """Restore the device's state, unless it is to stay empty or the operator had drained it."""
    drained = number((await runs.settings(tx, _DRAINED)).get(_DRAINED))
    if devid and drained == devid and not chosen.leave_in_drain_mode:
        await tx.run("UPDATE device SET status = 'alive' WHERE devid = ? AND status = 'drain'", devid)
    await runs.set_all(tx, {_DRAINED: None})


async def release_drained(tx: Transaction, devid: int) -> bool:
    """Leave the restoring of the device's state to the caller; return whether the rebalance had drained it."""
    drained = number((await runs.settings(tx, _DRAINED)).get(_DRAINED)) == devid
    if drained:
        await runs.set_all(tx, {_DRAINED: None})
    return drained


async def _source_done(tx: Transaction, chosen: RebalancePolicy, at: RebalanceState) -> RebalanceState:
    await _restore_state(tx, chosen, at.sdev_current)
    return model.source_done(at)
