"""When a class requires more copies, all its files are queued in batches, on every engine."""

from __future__ import annotations

import pytest

from tawara.metadata import class_changes, cluster, files, queues, runs
from tawara.metadata.contract import Metadata
from tawara.model.files import NewFile

NOW = 1000


async def store(metadata: Metadata, key: bytes, classid: int) -> int:
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=classid, devids=(1, 2), now=1)
    await metadata.write(
        files.close_upload,
        NewFile(fid=fid, dmid=1, key=key, classid=classid, length=1, devids=(1, 2)),
        now=1,
        replicate=False,
    )
    return fid


async def changed(metadata: Metadata) -> list[str]:
    return sorted(await metadata.read(runs.settings, class_changes.PREFIX))


async def queue_all(metadata: Metadata) -> None:
    for field in await changed(metadata):
        while await metadata.write(class_changes.queue_files, field, now=NOW) is not None:
            pass


async def waiting(metadata: Metadata) -> set[int]:
    return {each.fid for each in await metadata.write(queues.claim_replications, limit=100, now=NOW, lease=0)}


async def test_files_of_a_changed_class_are_queued(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its files, and no others, are queued in batches while the queue is short enough; afterwards no state
    remains."""
    monkeypatch.setattr(class_changes, "TICK", 3)
    monkeypatch.setattr(class_changes, "WAITING", 4)
    await metadata.write(cluster.create_domain, "d")
    classid = await metadata.write(cluster.create_class, "d", "c", mindevcount=2)
    fids = {await store(metadata, b"k%d" % number, classid) for number in range(7)}
    await store(metadata, b"other", 0)
    await metadata.write(class_changes.update_class, "d", "c", mindevcount=3)
    seen: set[int] = set()
    ticks = 0
    while await changed(metadata):
        await queue_all(metadata)
        found = await metadata.write(queues.claim_replications, limit=100, now=NOW)
        assert len(found) <= 6
        for claim in found:
            await metadata.write(queues.finish_replication, claim)
        seen |= {claim.fid for claim in found}
        ticks += 1
    assert seen == fids
    assert ticks > 1


async def test_a_claim_from_before_the_change_does_not_end_the_work(metadata: Metadata) -> None:
    """A worker that evaluated a file with the old number of copies does not remove it from the queue."""
    await metadata.write(cluster.create_domain, "d")
    classid = await metadata.write(cluster.create_class, "d", "c", mindevcount=2)
    fid = await store(metadata, b"k", classid)
    await metadata.write(queues.enqueue_replication, fid)
    (claim,) = await metadata.write(queues.claim_replications, limit=1, now=NOW - 1)
    await metadata.write(class_changes.update_class, "d", "c", mindevcount=3)
    await queue_all(metadata)
    await metadata.write(queues.finish_replication, claim)
    assert await waiting(metadata) == {fid}


@pytest.mark.parametrize(
    ("change", "queued"),
    [
        ({"mindevcount": 3}, True),
        ({"replpolicy": "MultipleDevices()"}, True),
        ({"mindevcount": 2, "replpolicy": "MultipleHosts()"}, False),
        ({"mindevcount": 1}, False),
        ({"clear_hashtype": True}, False),
    ],
)
async def test_which_changes_matter(metadata: Metadata, change: dict[str, object], queued: bool) -> None:
    """More copies or another policy matter; with fewer copies the files are unchanged until they are examined."""
    await metadata.write(cluster.create_domain, "d")
    await metadata.write(cluster.create_class, "d", "c", mindevcount=2, replpolicy="MultipleHosts()")
    await metadata.write(class_changes.update_class, "d", "c", **change)
    assert bool(await changed(metadata)) == queued


async def test_the_default_class_without_a_row(metadata: Metadata) -> None:
    """Its files are queued, because its former number of copies depends on the configuration."""
    await metadata.write(cluster.create_domain, "d")
    fid = await store(metadata, b"k", 0)
    await metadata.write(class_changes.update_class, "d", "default", mindevcount=3)
    await queue_all(metadata)
    assert await waiting(metadata) == {fid}
