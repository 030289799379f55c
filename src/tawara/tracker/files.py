"""Verbs about one stored file: paths, metadata, deletion, renaming and change of class."""

from __future__ import annotations

from tawara.metadata import diagnosis, files
from tawara.model import errors
from tawara.model.cluster import Cluster
from tawara.model.files import StoredFile
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value
from tawara.wire.signatures import NodeRight

_FEWEST_PATHS = 2
"""Smallest effective value of `pathcount`."""


async def get_paths(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Return URLs at which a file can be read now, best first; at most `pathcount`, possibly none."""
    domain = call.domain(tracker.cluster)
    key, wanted = call.key(), max(_FEWEST_PATHS, call.number("pathcount") or 0)
    verify = not call.flag("noverify")
    stored = await tracker.store.find(domain, key)
    chosen = await tracker.locator.responsive(stored, wanted, verify=verify)
    if not chosen:
        # The file was overwritten or moved since the look-up, or this tracker does not know its device yet: repeat.
        await tracker.view.refresh_for(stored.devids)
        stored = await tracker.store.find(domain, key)
        chosen = await tracker.locator.responsive(stored, wanted, verify=verify)
    if not chosen:
        backup = tracker.locator.last_resort(stored)
        chosen = [] if backup is None else [backup]
    cluster = tracker.cluster
    reply: dict[str, Value] = {"paths": len(chosen)}
    for number, devid in enumerate(chosen, 1):
        url = cluster.url(devid, stored.fid, get=True, client_ip=call.client_ip, alternative=call.alternative)
        reply[f"path{number}"] = tracker.client_url(url, NodeRight.READ)
    return reply


def names_of(cluster: Cluster, stored: StoredFile) -> tuple[str, str]:
    """Return the names of a file's domain and class, empty if they no longer exist."""
    domain = cluster.domains_by_id.get(stored.dmid)
    storage_class = domain.classes.get(stored.classid) if domain else None
    return domain.name if domain else "", storage_class.name if storage_class else ""


async def file_info(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Return the metadata of a file."""
    domain = call.domain(tracker.cluster)
    stored = await tracker.store.find(domain, call.key())
    storage_class = domain.classes.get(stored.classid)
    reply: dict[str, Value] = {
        "fid": stored.fid,
        "domain": domain.name,
        "class": storage_class.name if storage_class else "",
        "key": stored.key,
        "length": stored.length,
        "devcount": stored.devcount,
    }
    if storage_class and storage_class.hashtype:
        reply["checksum"] = str(stored.checksum) if stored.checksum else "MISSING"
    if (
        call.flag("times") and stored.stored_at is not None
    ):  # an extension: without this argument the reply is MogileFS's
        reply["stored_at"] = stored.stored_at
        if (mtime_ns := await tracker.metadata.read(files.source_time, stored.fid)) is not None:
            reply["mtime_ns"] = mtime_ns
        if stored.content_type is not None:
            reply["content_type"] = stored.content_type
    if call.flag("devices"):
        reply["devids"] = ",".join(map(str, sorted(stored.devids)))
        if tracker.signer is not None:
            for devid in stored.devids:
                url = tracker.cluster.url(devid, stored.fid, get=True)
                reply[f"devpath_{devid}"] = tracker.client_url(url, NodeRight.READ)
    return reply


async def file_debug(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Return all database rows of a fid, also of one without a key."""
    cluster = tracker.cluster
    stored = None if call.flag("fid") else await tracker.store.find(call.domain(cluster), call.key())
    fid = stored.fid if stored else call.identifier("fid")
    facts = await tracker.metadata.read(diagnosis.facts_of, fid)
    reply: dict[str, Value] = {"checksum": str(facts.checksum) if facts.checksum else "NONE"}
    if facts.devids:
        reply["devids"] = ",".join(map(str, facts.devids))
    for devid in facts.devids:
        url = cluster.url(devid, facts.fid, get=True, client_ip=call.client_ip, alternative=call.alternative)
        reply[f"devpath_{devid}"] = tracker.client_url(url, NodeRight.READ)
    for prefix, row in facts.rows.items():
        reply |= {f"{prefix}_{column}": value for column, value in row.items()}
    if stored is None:
        stored = await tracker.metadata.read(files.find_fid, fid)
    if stored is not None:
        reply["fid_domain"], reply["fid_class"] = names_of(cluster, stored)
    return reply


async def delete(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Delete a key; its bytes are deleted later."""
    domain = call.domain(tracker.cluster)
    await tracker.store.delete(domain, call.key())
    return {}


async def rename(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Give a file another key, which must be free."""
    domain = call.domain(tracker.cluster)
    from_key, to_key = call.key("from_key"), call.key("to_key")
    call.new_key("to_key")
    await tracker.store.rename(domain, from_key, to_key)
    return {}


async def updateclass(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Move a file to another class of its domain."""
    domain = call.domain(tracker.cluster)
    key = call.key()
    name = call.text("class")
    if not name:
        raise errors.NoClass
    storage_class = domain.class_named(name)
    if storage_class is None:
        raise errors.ClassNotFound
    await tracker.store.set_class(domain, key, storage_class)
    return {}
