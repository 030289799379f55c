"""Verbs about the check of all files, fsck (docs/mogilefs.md 5), which the workers run."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tawara.metadata import fsck, scrub
from tawara.metadata import pace as paces
from tawara.metadata.contract import Row
from tawara.model import errors, pace
from tawara.model.cluster import Cluster
from tawara.model.focus import Focus
from tawara.model.scrub import expected_end, is_late
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value

_UNSUMMED = 10_000
"""Number of unsummarized log lines above which a status request stores their counts."""


async def fsck_start(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Start a check, or continue a stopped one."""
    await tracker.metadata.write(fsck.start, host=socket.gethostname(), now=await tracker.now())
    await _notify_worker(tracker)
    return {}


async def fsck_stop(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Stop the check; its position is kept."""
    await tracker.metadata.write(fsck.stop, now=await tracker.now())
    await _notify_worker(tracker)
    return {}


async def fsck_reset(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Set the options of the next check, and the fid after which it begins.

    Extensions of MogileFS are `every_byte`, and `domain`, `class`, `prefix` and `devices` (ids separated by commas),
    which limit the files that are checked. Raises UnregDomain, UnregClass, NoDevice.
    """
    await tracker.metadata.write(
        fsck.reset,
        policy_only=call.flag("policy_only"),
        position=call.bounded("startpos"),
        focus=_focus(await tracker.view.refresh(), call),
    )
    await _notify_worker(tracker)
    return {}


def _focus(cluster: Cluster, call: TrackerRequest) -> Focus:
    domain = call.domain(cluster) if call.raw("domain") else None
    storage_class = domain.class_named(call.text("class")) if domain and call.raw("class") else None
    if call.raw("class") and storage_class is None:
        raise errors.UnregClass
    devices = [each for each in call.text("devices").split(",") if each]
    for each in devices:
        if not each.isdecimal() or int(each) not in cluster.devices:
            raise errors.NoDevice(f"There is no device dev{each}")
    return Focus(
        dmid=domain.dmid if domain else None,
        classid=storage_class.classid if storage_class else None,
        prefix=call.raw("prefix"),
        devids=frozenset(map(int, devices)),
        every_byte=call.flag("every_byte"),
    )


async def _notify_worker(tracker: TrackerContext) -> None:
    """Refresh this process's view of the cluster, and notify its fsck worker."""
    await tracker.view.refresh()
    tracker.wakeups.fsck.notify()


async def fsck_status(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Report the progress of the check.

    Extensions of MogileFS: `queued`, files that wait or are being checked; `stalled`, deferred files; `start_fid`, the
    fid at which the check started, and `checked`, the number of files checked since; `start_logid`, after which the log
    lines belong to this check; and the options that limit the check.
    """
    at = await tracker.metadata.read(fsck.progress)
    if at.unsummed > _UNSUMMED:
        await tracker.metadata.write(fsck.summarize, now=await tracker.now())
    reply: dict[str, Value] = {
        "running": int(bool(at.host)),
        "host": at.host,
        "max_fid_checked": at.position,
        "policy_only": int(at.policy_only),
        "end_fid": at.end,
        "start_time": at.start_time,
        "stop_time": at.stop_time,
        "current_time": await tracker.now(),
        "max_logid": at.last_logid,
        "queued": at.queued,
        "stalled": at.stalled,
        "start_fid": at.start_fid,
        "checked": at.checked,
        "start_logid": at.start_logid,
        **_focus_fields(tracker.cluster, at.focus),
    }
    if tracker.cluster.stale:
        reply["stale"] = errors.StaleDatabase.because(tracker.cluster.stale).message
    return reply | {f"num_{code}": count for code, count in sorted(at.counts.items())}


def _focus_fields(cluster: Cluster, focus: Focus) -> Args:
    told: dict[str, Value] = {}
    if focus.dmid is not None and (domain := cluster.domains_by_id.get(focus.dmid)):
        told["focus_domain"] = domain.name
        if focus.classid is not None and (storage_class := domain.classes.get(focus.classid)):
            told["focus_class"] = storage_class.name
    if focus.prefix:
        told["focus_prefix"] = focus.prefix
    if focus.devids:
        told["focus_devices"] = ",".join(map(str, sorted(focus.devids)))
    if focus.every_byte:
        told["every_byte"] = 1
    return told


async def fsck_getlog(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Return the next lines of the log after `after_logid`."""
    return _lines(await tracker.metadata.read(fsck.log_after, call.bounded("after_logid")))


def _lines(rows: Sequence[Row]) -> Args:
    reply: dict[str, Value] = {"row_count": len(rows)}
    for number, row in enumerate(rows, 1):
        for name, value in zip(("logid", "utime", "fid", "evcode", "devid"), row, strict=True):
            if value is not None:
                reply[f"row_{number}_{name}"] = value
    return reply


async def fsck_clearlog(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Delete the log; the counts are kept."""
    await tracker.metadata.write(fsck.clear_log)
    return {}


async def scrub_status(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Report the progress of the continuous scrub; `period` 0: off, `began` 0: not begun. Not in MogileFS."""
    now = await tracker.now()
    stands = await tracker.metadata.read(scrub.progress, now=now)
    at, period = stands.at, stands.period
    expected = 0
    if period and at.began:
        capacity = pace.capacity(await tracker.metadata.read(paces.load), "scrub", now)
        expected = expected_end(at, period, unread=stands.queued + stands.stalled, now=now, capacity=capacity)
    reply: dict[str, Value] = {
        "period": period,
        "began": at.began,
        "max_fid_checked": at.position,
        "end_fid": at.end,
        "checked": at.done,
        "left": at.left,
        "expected_end": expected,
        "late": int(bool(expected) and is_late(at, period, expected)),
        "current_time": now,
        "queued": stands.queued,
        "stalled": stands.stalled,
        "max_logid": stands.last_logid,
        "bad_replicas": stands.damage.replicas,
        "bad_files": stands.damage.files,
        "bad_waiting": stands.damage.waiting,
        "unrepairable": stands.damage.unrepairable,
        "repaired": stands.damage.repaired,
    }
    return reply | {f"num_{code}": count for code, count in stands.counts.items()}


async def scrub_getlog(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Return the next findings of the scrub after `after_logid`. Not in MogileFS."""
    return _lines(await tracker.metadata.read(scrub.log_after, call.bounded("after_logid")))
