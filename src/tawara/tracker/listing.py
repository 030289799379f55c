"""Verbs that list keys by name and files by fid."""

from __future__ import annotations

from tawara.model import errors
from tawara.model.limits import LIST_KEYS
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.tracker.files import names_of
from tawara.wire.line import Args, Value

_DEFAULT_FIDS = 100


async def list_keys(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """List the keys that begin with `prefix` and follow `after`, in byte order."""
    domain = call.domain(tracker.cluster)
    prefix, after = call.raw("prefix"), call.raw("after")
    if after and not after.startswith(prefix):
        raise errors.AfterMismatch
    keys = await tracker.store.list_keys(domain, prefix, after or None, call.number("limit") or LIST_KEYS)
    if not keys:
        raise errors.NoneMatch
    reply: dict[str, Value] = {"key_count": len(keys), "next_after": keys[-1]}
    for number, key in enumerate(keys, 1):
        reply[f"key_{number}"] = key
    return reply


async def list_fids(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """List files whose fid is greater than `from`, in order; `to` is the maximum number of them, as in MogileFS."""
    cluster = tracker.cluster
    found = await tracker.store.list_fids(call.bounded("from"), call.number("to") or _DEFAULT_FIDS)
    reply: dict[str, Value] = {"fid_count": len(found)}
    for number, stored in enumerate(found, 1):
        domain, class_name = names_of(cluster, stored)
        reply |= {
            f"fid_{number}_fid": stored.fid,
            f"fid_{number}_domain": domain,
            f"fid_{number}_class": class_name,
            f"fid_{number}_key": stored.key,
            f"fid_{number}_length": stored.length,
            f"fid_{number}_devcount": stored.devcount,
        }
    return reply
