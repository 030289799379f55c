"""Verb that explains a file: why its replicas are where they are, pending work, and what blocks it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tawara.metadata import diagnosis
from tawara.model import errors
from tawara.model.explanation import ExplainedFile, ReplicaState, explain
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value


async def tawara_explain(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Explain a key, or the `fid` of a file, an open upload or a deleted file, in sentences.

    Without `noverify`, the storage nodes are asked for the size of each replica.
    """
    cluster = tracker.cluster
    now = await tracker.now()
    if call.flag("fid"):
        fid = call.identifier("fid")
        case = await tracker.metadata.read(diagnosis.case_of_fid, fid, name=f"fid {fid}", now=now)
    else:
        domain, key = call.domain(cluster), call.key()
        name = f"{domain.name}/{key.decode('utf-8', 'replace')}"
        case = await tracker.metadata.read(diagnosis.case_of_key, domain.dmid, key, name=name, now=now)
    if not call.flag("noverify"):
        case = await _verified(tracker, case)
    explanation = explain(cluster, case, tracker.rng)
    reply: dict[str, Value] = {
        "fid": case.fid,
        "verdict": explanation.verdict.value,
        "sentences": len(explanation.sentences),
    }
    for number, each in enumerate(explanation.sentences, 1):
        reply[f"sentence{number}_topic"] = each.topic.value
        reply[f"sentence{number}_trouble"] = int(each.trouble)
        reply[f"sentence{number}_text"] = each.text
    return reply


async def _verified(tracker: TrackerContext, case: ExplainedFile) -> ExplainedFile:
    """Return the same case with the state of each replica as its storage node reports it."""
    devids = case.replicas or (case.upload.devids if case.upload else ())
    asked = [devid for devid in devids if tracker.cluster.should_read_from(devid)]
    seen = await asyncio.gather(*(_look(tracker, case, devid) for devid in asked))
    return replace(case, seen=dict(zip(asked, seen, strict=True)))


async def _look(tracker: TrackerContext, case: ExplainedFile, devid: int) -> ReplicaState:
    url = tracker.cluster.url(devid, case.fid or 0, get=True)
    try:
        size = await tracker.nodes.size(url) if url else None
    except errors.NodeUnreachable:
        return ReplicaState.SILENT
    if size is None:
        return ReplicaState.MISSING
    return ReplicaState.THERE if case.file is None or size == case.file.length else ReplicaState.WRONG_SIZE
