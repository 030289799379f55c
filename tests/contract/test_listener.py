"""Wake-ups for work that other processes queue, on every engine."""

from __future__ import annotations

from tawara.metadata import queues
from tawara.metadata.contract import Metadata
from tawara.metadata.wakeups import Wakeups
from tawara.workers.wakeup_poller import WakeupPoller

SOON, A_MOMENT = 30.0, 0.1


async def test_due_rows_notify_their_worker(metadata: Metadata) -> None:
    """A due row notifies the worker of its queue and no other, repeatedly until it is claimed."""
    wakeups = Wakeups()
    listener = WakeupPoller(metadata, wakeups, period=0.01)
    listener.start()
    try:
        await metadata.write(queues.enqueue_replication, 1)
        assert await wakeups.replicate.wait(SOON)
        assert await wakeups.replicate.wait(SOON)
        assert not await wakeups.delete.wait(A_MOMENT)
        now = await metadata.clock.seconds()
        assert await metadata.write(queues.claim_replications, limit=1, now=now)
        await metadata.write(queues.enqueue_deletion, 2, now)
        assert await wakeups.delete.wait(SOON)
        await wakeups.replicate.wait(0)  # what rang before the claim
        assert not await wakeups.replicate.wait(A_MOMENT)
    finally:
        await listener.stop()


async def test_deferred_rows_do_not_notify(metadata: Metadata) -> None:
    """Rows that become due later do not notify yet."""
    wakeups = Wakeups()
    later = await metadata.clock.seconds() + 1000
    await metadata.write(queues.enqueue_replication, 1, nexttry=later)
    await metadata.write(queues.enqueue_deletion, 2, later)
    listener = WakeupPoller(metadata, wakeups, period=0.01)
    listener.start()
    try:
        assert not await wakeups.replicate.wait(A_MOMENT)
        assert not await wakeups.delete.wait(A_MOMENT)
    finally:
        await listener.stop()
