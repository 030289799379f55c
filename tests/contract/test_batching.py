"""A batched query returns what each call would have returned alone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tawara.metadata import files, uploads
from tawara.metadata.batching import QueryBatcher
from tawara.metadata.contract import Metadata, QueryCall, Result, Transaction
from tawara.metadata.uploads import CloseRequest, OpenRequest
from tawara.model.files import NewFile

FRESH_DMID = itertools.count(5_000_000)
several = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Which of six uploads, to which of three keys, and whether the key is expected to name something, nothing, or anything.
plans = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from([None, "nothing", "first"])), max_size=8
)


def closing(dmid: int, fids: list[int], plan: tuple[int, int, str | None]) -> CloseRequest:
    upload, key, expected = plan
    expected_fid = {None: None, "nothing": 0, "first": fids[0]}[expected]
    file = NewFile(fid=fids[upload], dmid=dmid, key=b"k%d" % key, length=1, classid=0, devids=(1,))
    return CloseRequest(file, now=1, expected_fid=expected_fid)


async def close_and_look(tx: Transaction, dmid: int, plan: list[tuple[int, int, str | None]], *, alone: bool) -> object:
    openings = [OpenRequest(dmid, b"k", 0, (1,), 1) for _ in range(5)]
    # The sixth upload was never opened.
    fids = [*(await uploads.open_many(tx, openings)), 1 << 50]
    closings = [closing(dmid, fids, each) for each in plan]
    if alone:
        answers = [(await uploads.close_many(tx, [each]))[0] for each in closings]
    else:
        answers = await uploads.close_many(tx, closings)
    named = {key: await files.find(tx, dmid, key) for key in (b"k0", b"k1", b"k2")}
    ordinal = {fid: place for place, fid in enumerate(fids)}
    return (
        [type(each).__name__ if isinstance(each, Exception) else ordinal.get(each or 0) for each in answers],
        {key: None if file is None else ordinal[file.fid] for key, file in named.items()},
    )


@several
@given(plan=plans)
async def test_batched_closes_equal_single_closes(metadata: Metadata, plan: list[tuple[int, int, str | None]]) -> None:
    """Closes in one batch have the results, and leave the files, of the same closes one by one in that order."""
    alone = await metadata.write(close_and_look, next(FRESH_DMID), plan, alone=True)
    batched = await metadata.write(close_and_look, next(FRESH_DMID), plan, alone=False)
    assert alone == batched


async def test_batched_look_ups_equal_single_ones(metadata: Metadata) -> None:
    """Look-ups in one batch, of several domains, of one key twice and of none, each get their own file."""
    stored: dict[tuple[int, bytes], int] = {}
    for dmid, key in itertools.product((1, 2), (b"a", b"b", b"a\x00")):
        fid = await metadata.write(files.open_upload, dmid=dmid, key=key, classid=0, devids=(1, 2), now=1)
        await metadata.write(
            files.close_upload, NewFile(fid=fid, dmid=dmid, key=key, classid=0, length=1, devids=(1, 2)), now=1
        )
        stored[dmid, key] = fid
    asked = [(dmid, key) for dmid in (1, 2, 3) for key in (b"a", b"b", b"a\x00", b"none", b"a")] * 5
    found = await asyncio.gather(*(metadata.read(files.find, *each) for each in asked))
    assert [None if each is None else each.fid for each in found] == [stored.get(each) for each in asked]
    assert all(sorted(each.devids) == [1, 2] for each in found if each is not None)


async def test_batched_look_ups_of_uploads(metadata: Metadata) -> None:
    """Uploads that are looked up in one batch, twice and where there is none, each get their own result."""
    fids = [
        await metadata.write(files.open_upload, dmid=1, key=b"k%d" % number, classid=0, devids=(1, number), now=1)
        for number in range(3)
    ]
    asked = [*fids, 1 << 50, *fids] * 5
    found = await asyncio.gather(*(metadata.read(files.find_upload, fid) for fid in asked))
    expected = {fid: (fid, b"k%d" % number, (1, number)) for number, fid in enumerate(fids)}
    assert [each and (each.fid, each.key, each.devids) for each in found] == [expected.get(fid) for fid in asked]


async def test_calls_that_arrive_during_a_batch_form_the_next() -> None:
    """The first call is run at once; later ones form batches of limited size, each with its own result."""
    batches: list[int] = []
    gate = asyncio.Event()

    async def run_batch(calls: Sequence[QueryCall]) -> list[Result]:
        batches.append(len(calls))
        await gate.wait()
        return [ValueError(call.args[0]) if call.args[0] % 2 else call.args[0] for call in calls]

    batcher = QueryBatcher(run_batch, width=1, most=4)
    first = batcher.add(QueryCall((0,), {}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert batches == [1]
    waiting = [batcher.add(QueryCall((number,), {})) for number in range(1, 8)]
    waiting[0].cancel()
    gate.set()
    answers = await asyncio.gather(first, *waiting[1:], return_exceptions=True)
    assert batches == [1, 3, 3]
    assert [each if isinstance(each, int) else str(each) for each in answers] == [0, 2, "3", 4, "5", 6, "7"]
    await batcher.drain()


async def test_a_slow_batch_delays_no_other() -> None:
    """A slow batch delays only its own calls; others are run concurrently, in at most `width` batches."""
    batches: list[list[int]] = []
    gates = {0: asyncio.Event(), 1: asyncio.Event()}

    async def run_batch(calls: Sequence[QueryCall]) -> list[Result]:
        batches.append([call.args[0] for call in calls])
        for number in gates.keys() & set(batches[-1]):
            await gates[number].wait()
        return [call.args[0] for call in calls]

    batcher = QueryBatcher(run_batch, width=2, most=4, max_wait=0.01)
    stuck = batcher.add(QueryCall((0,), {}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = [batcher.add(QueryCall((number,), {})) for number in (2, 3)]
    assert list(await asyncio.wait_for(asyncio.gather(*second), 20)) == [2, 3]
    assert await asyncio.wait_for(batcher.add(QueryCall((4,), {})), 20) == 4
    also_stuck, waiting = batcher.add(QueryCall((1,), {})), batcher.add(QueryCall((5,), {}))
    await asyncio.sleep(0.05)
    third = batcher.add(QueryCall((6,), {}))
    await asyncio.sleep(0.05)
    assert batches == [[0], [2, 3], [4], [1, 5]]
    gates[1].set()
    assert list(await asyncio.wait_for(asyncio.gather(also_stuck, waiting, third), 20)) == [1, 5, 6]
    assert not stuck.done()
    gates[0].set()
    assert await asyncio.wait_for(stuck, 20) == 0
    await batcher.drain()
