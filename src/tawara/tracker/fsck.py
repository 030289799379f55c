"""The verbs about the check of all files (reference: section 5); the workers do it."""

from __future__ import annotations

import socket

from tawara.metadata import fsck
from tawara.tracker.context import Call, Tracker
from tawara.wire.line import Args, Value

_UNSUMMED = 10_000
"""Lines of the log that may be counted anew for each status."""


async def fsck_start(tracker: Tracker, call: Call) -> Args:
    """Begin a check, or go on with the one that was stopped."""
    await tracker.metadata.write(fsck.start, host=socket.gethostname(), now=tracker.now())
    await _tell(tracker)
    return {}


async def fsck_stop(tracker: Tracker, call: Call) -> Args:
    """Stop the check; its position is kept."""
    await tracker.metadata.write(fsck.stop, now=tracker.now())
    await _tell(tracker)
    return {}


async def fsck_reset(tracker: Tracker, call: Call) -> Args:
    """Decide how the next check looks, and behind which fid it begins."""
    await tracker.metadata.write(fsck.reset, policy_only=call.flag("policy_only"), position=call.bounded("startpos"))
    await _tell(tracker)
    return {}


async def _tell(tracker: Tracker) -> None:
    """Have this process know, and its worker see to it at once."""
    await tracker.view.refresh()
    tracker.bells.fsck.ring()


async def fsck_status(tracker: Tracker, call: Call) -> Args:
    """How the check stands. Ours are `queued`, the files that wait or are looked at, and `stalled`, those put off."""
    at = await tracker.metadata.read(fsck.progress)
    if at.unsummed > _UNSUMMED:
        await tracker.metadata.write(fsck.summarize, now=tracker.now())
    reply: dict[str, Value] = {
        "running": int(bool(at.host)),
        "host": at.host,
        "max_fid_checked": at.position,
        "policy_only": int(at.policy_only),
        "end_fid": at.end,
        "start_time": at.start_time,
        "stop_time": at.stop_time,
        "current_time": tracker.now(),
        "max_logid": at.last_logid,
        "queued": at.queued,
        "stalled": at.stalled,
    }
    return reply | {f"num_{code}": count for code, count in sorted(at.counts.items())}


async def fsck_getlog(tracker: Tracker, call: Call) -> Args:
    """The next lines of the log after `after_logid`."""
    rows = await tracker.metadata.read(fsck.log_after, call.bounded("after_logid"))
    reply: dict[str, Value] = {"row_count": len(rows)}
    for number, row in enumerate(rows, 1):
        for name, value in zip(("logid", "utime", "fid", "evcode", "devid"), row, strict=True):
            if value is not None:
                reply[f"row_{number}_{name}"] = value
    return reply


async def fsck_clearlog(tracker: Tracker, call: Call) -> Args:
    """Empty the log; the counts stay."""
    await tracker.metadata.write(fsck.clear_log)
    return {}
