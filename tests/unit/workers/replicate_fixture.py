"""A replicate worker on a WorkersFixture."""

from __future__ import annotations

from tawara.workers.replicate_files import ReplicateFiles
from tests.unit.workers.workers_fixture import WorkersFixture

SMALL_FILE = b"a bale of rice"


def worker(fixture: WorkersFixture) -> ReplicateFiles:
    return ReplicateFiles(fixture.metadata, fixture.view, fixture.nodes, delete_wakeup=fixture.wakeups.delete)


async def do_all(fixture: WorkersFixture) -> float | None:
    """Do all due work. Returns the time to which the last unit was deferred."""
    replicate, until = worker(fixture), None
    for item in await replicate.take(100):
        until = await replicate.work(item)
    return until
