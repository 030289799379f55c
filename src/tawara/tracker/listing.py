"""The verbs that list: keys by name, files by number."""

from __future__ import annotations

from tawara.metadata import files
from tawara.model import errors
from tawara.model.limits import LIST_FIDS, LIST_KEYS
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.tracker.files import names_of
from tawara.wire.line import Args, Value

_FIDS_UNLESS_TOLD = 100


async def list_keys(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """The keys that begin with `prefix` and follow `after`, in byte order."""
    domain = call.domain(tracker.cluster)
    prefix, after = call.raw("prefix"), call.raw("after")
    if after and not after.startswith(prefix):
        raise errors.AfterMismatch
    limit = min(max(1, call.number("limit") or LIST_KEYS), LIST_KEYS)
    keys = await tracker.metadata.read(files.list_keys, domain.dmid, prefix, after or None, limit)
    if not keys:
        raise errors.NoneMatch
    reply: dict[str, Value] = {"key_count": len(keys), "next_after": keys[-1]}
    for number, key in enumerate(keys, 1):
        reply[f"key_{number}"] = key
    return reply


async def list_fids(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """The files whose fid is greater than `from`, in order; `to` is how many (the original's name for it)."""
    cluster = tracker.cluster
    after = call.bounded("from")
    count = min(max(1, call.number("to") or _FIDS_UNLESS_TOLD), LIST_FIDS)
    found = await tracker.metadata.read(files.list_fids, after, count)
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
