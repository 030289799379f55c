"""Concurrent clients on several trackers use a few keys; a checker looks for a history that explains all results. Per
key: all results, and the final state, must follow from some order of the changes in which a change that ended before
another began comes first (linearizability). Fids make that easy to see: each close stores a unique value. A change that
failed with Db may have been made at any later time, or never."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from tawara.metadata import files, queues
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.errors import Db, KeyExists, UnknownKey
from tawara.model.files import NewFile
from tests.contract.servers import Server

Opener = Callable[[], Awaitable[Metadata]]


@dataclass
class Told:
    """One call and its result; `began` and `ended` are of one clock."""

    name: str
    keys: tuple[bytes, ...]
    fid: int | None
    began: int
    ended: int = 0
    answer: object = None


State = dict[bytes, int]


LOST = "lost"
"""The answer of a call that was answered with Db."""
NEVER = 1 << 60


def follows(state: State, call: Told) -> State | None:
    """The state after `call`, or None if its result is impossible in `state`."""
    key = call.keys[0]
    now = state.get(key)
    if call.answer == LOST:
        possible = {"find": now, "close": now, "delete": now, "rename": None}[call.name]
        return follows(state, replace(call, answer=possible))
    if call.name == "find":
        return state if call.answer == now else None
    if call.name == "close":
        assert call.fid is not None
        return {**state, key: call.fid} if call.answer == now else None
    if call.name == "delete":
        if call.answer != now:
            return None
        return {each: fid for each, fid in state.items() if each != key}
    target = call.keys[1]
    if call.answer == "unknown":
        return state if now is None else None
    if call.answer == "exists":
        return state if now is not None and (target in state) else None
    if now is None or target in state:
        return None
    return {**{each: fid for each, fid in state.items() if each != key}, target: now}


@dataclass
class Search:
    """Searches for an order of the calls that explains their results."""

    calls: list[Told]
    dead_ends: set[tuple[frozenset[int], tuple[tuple[bytes, int], ...]]] = field(default_factory=set)

    def explains(self, final: State) -> bool:
        """Whether there is one, from an empty database to `final`."""
        todo = [(frozenset(range(len(self.calls))), State())]
        while todo:
            left, state = todo.pop()
            if state == final and all(self.calls[each].answer == LOST for each in left):
                return True
            if not left:
                continue
            signature = (left, tuple(sorted(state.items())))
            if signature in self.dead_ends:
                continue
            self.dead_ends.add(signature)
            assert len(self.dead_ends) < 200_000, "the history is too long to be searched"
            first_end = min(self.calls[each].ended for each in left)
            # Lost calls are pushed first, and so tried last: most of them never took effect.
            for each in sorted(left, key=lambda each: self.calls[each].answer != LOST):
                if self.calls[each].began <= first_end and (after := follows(state, self.calls[each])) is not None:
                    todo.append((left - {each}, after))
        return False


class Clients:
    """Concurrent clients, and a record of their results."""

    def __init__(self, trackers: list[Metadata], seed: int) -> None:
        self.trackers = trackers
        self.random = random.Random(seed)
        self.clock = 0
        self.told: list[Told] = []

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    async def client(self, keys: list[bytes], calls: int) -> None:
        for _ in range(calls):
            tracker = self.random.choice(self.trackers)
            name = self.random.choice(("close", "close", "delete", "rename", "find"))
            chosen = tuple(self.random.sample(keys, 2))
            fid = await self.opened(tracker, chosen[0]) if name == "close" else None
            call = Told(name, chosen, fid, self.tick())
            try:
                call.answer = await self.ask(tracker, call)
                call.ended = self.tick()
            except Db:
                call.answer, call.ended = LOST, NEVER
                await self.opened(tracker, b"back again")
            self.told.append(call)

    async def opened(self, tracker: Metadata, key: bytes) -> int:
        while True:
            try:
                return await tracker.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
            except Db:
                await asyncio.sleep(0.05)

    async def ask(self, tracker: Metadata, call: Told) -> object:
        key = call.keys[0]
        if call.name == "find":
            found = await tracker.read(files.find, 1, key)
            return None if found is None else found.fid
        if call.name == "close":
            assert call.fid is not None
            return await tracker.write(
                files.close_upload, NewFile(fid=call.fid, dmid=1, key=key, classid=0, length=1, devids=(1,)), now=1
            )
        try:
            if call.name == "delete":
                return await tracker.write(files.delete, 1, key, now=1)
            return await tracker.write(files.rename, 1, *call.keys)
        except UnknownKey:
            return None if call.name == "delete" else "unknown"
        except KeyExists:
            return "exists"


async def check(clients: Clients, keys: list[bytes]) -> None:
    """Compare the clients' results, and the final state, with every possible history."""
    metadata = clients.trackers[0]
    found = {key: await metadata.read(files.find, 1, key) for key in keys}
    final = {key: each.fid for key, each in found.items() if each is not None}
    gone = {each.fid for each in await metadata.write(queues.claim_deletions, limit=10_000, now=10)}
    # A lost look-up says nothing, and of a lost close it is known by its fid whether it took effect.
    stored = gone | set(final.values())
    told = [call for call in clients.told if call.answer != LOST or call.name != "find"]
    told = [call for call in told if call.answer != LOST or call.name != "close" or call.fid in stored]
    assert Search(told).explains(final), sorted(told, key=lambda call: call.began)
    assert len(set(final.values())) == len(final)
    assert stored == {call.fid for call in told if call.name == "close"}
    assert not gone & set(final.values())


@pytest.mark.parametrize("seed", range(4))
async def test_changes_of_a_key_are_linearizable(metadata: Metadata, opener: Opener, seed: int) -> None:
    """Closes, deletes, renames and look-ups of three keys by six clients on two trackers have a sequential history."""
    clients = Clients([metadata, await opener()], seed)
    keys = [b"a", b"b", b"c"]
    await asyncio.gather(*(clients.client(keys, 12) for _ in range(6)))
    await check(clients, keys)


@pytest.mark.parametrize("engine", ["postgresql", "mysql"], indirect=True)
async def test_they_are_so_while_the_database_is_killed(
    metadata: Metadata, opener: Opener, engine: str, servers: Callable[[str], Server]
) -> None:
    """The same while the server is killed and restarted: no acknowledged change is lost or undone."""
    clients = Clients([metadata, await opener()], 1)
    keys = [b"a", b"b", b"c"]
    running = asyncio.gather(*(clients.client(keys, 25) for _ in range(5)))
    for told in (30, 70):
        while len(clients.told) < told:
            await asyncio.sleep(0.002)
        await asyncio.to_thread(servers(engine).kill)
        await asyncio.to_thread(servers(engine).start)
    await running
    await check(clients, keys)


async def test_an_overwritten_key_is_never_unknown(metadata: Metadata, opener: Opener) -> None:
    """While a key is overwritten repeatedly, no call that changes or looks it up reports it as unknown."""
    other = await opener()

    async def put(tracker: Metadata) -> None:
        fid = await tracker.write(files.open_upload, dmid=1, key=b"k", classid=0, devids=(1,), now=1)
        await tracker.write(
            files.close_upload, NewFile(fid=fid, dmid=1, key=b"k", classid=0, length=1, devids=(1,)), now=1
        )

    async def look(tracker: Metadata) -> None:
        for number in range(30):
            await tracker.write(files.set_class, 1, b"k", number % 2)
            assert await tracker.read(files.find, 1, b"k") is not None

    async def overwrite(tracker: Metadata) -> None:
        for _ in range(30):
            await put(tracker)

    await put(metadata)
    await asyncio.gather(
        *(each(tracker) for each in (overwrite, overwrite, look, look) for tracker in (metadata, other))
    )


def test_the_checker_finds_faults() -> None:
    """The checker accepts a possible history and refuses a lost close, a stale look-up and a key that occurs twice."""
    first = Told("close", (b"a",), 1, 1, 2, None)
    second = Told("close", (b"a",), 2, 3, 4, 1)
    assert Search([first, second]).explains({b"a": 2})
    assert not Search([first, second]).explains({b"a": 1})
    assert not Search([first, Told("close", (b"a",), 2, 3, 4, None)]).explains({b"a": 2})
    assert not Search([first, second, Told("find", (b"a",), None, 5, 6, 1)]).explains({b"a": 2})
    assert Search([first, second, Told("find", (b"a",), None, 1, 6, 1)]).explains({b"a": 2})
    assert not Search([first, Told("rename", (b"a", b"b"), None, 3, 4, None)]).explains({b"a": 1, b"b": 1})
    lost = Told("close", (b"a",), 2, 3, NEVER, LOST)
    assert Search([first, lost]).explains({b"a": 1})
    assert Search([first, lost]).explains({b"a": 2})
    assert not Search([first, lost]).explains({})


async def test_concurrent_uploads(metadata: Metadata, opener: Opener) -> None:
    """Uploads that are opened and closed concurrently, on two trackers and of few keys, leave one file for each key."""
    trackers = [metadata, await opener()]

    async def create(number: int) -> tuple[bytes, int, int | None]:
        key = b"k%d" % (number % 7)
        tracker = trackers[number % 2]
        fid = await tracker.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1, 2), now=1)
        replaced = await tracker.write(
            files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=(1, 2)), now=1
        )
        return key, fid, replaced

    done = await asyncio.gather(*(create(number) for number in range(140)))
    assert len({fid for _, fid, _ in done}) == 140
    for key in {key for key, _, _ in done}:
        fids = {fid for each, fid, _ in done if each == key}
        replaced = [old for each, _, old in done if each == key]
        found = await metadata.read(files.find, 1, key)
        assert found is not None
        # Each fid was replaced exactly once, but the last one, and exactly one close replaced nothing.
        assert sorted(old for old in replaced if old is not None) == sorted(fids - {found.fid})
        assert sorted(found.devids) == [1, 2]


async def test_a_concurrent_close_and_discard(metadata: Metadata, opener: Opener) -> None:
    """Of a close and a discard of one upload, one succeeds; a fid is never both a file and queued for deletion."""
    other = await opener()

    async def both(tx: Transaction) -> int:
        row = await tx.row("SELECT COUNT(*) FROM file f JOIN file_to_delete2 d ON d.fid = f.fid")
        assert row is not None
        return int(row[0])

    for number in range(20):
        key = b"k%d" % number
        fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
        told = await asyncio.gather(
            metadata.write(
                files.close_upload, NewFile(fid=fid, dmid=1, key=key, classid=0, length=1, devids=(1,)), now=1
            ),
            other.write(files.discard_upload, fid, now=1),
            return_exceptions=True,
        )
        assert sum(isinstance(each, BaseException) for each in told) == 1
        found = await metadata.read(files.find, 1, key)
        assert (found is None) == isinstance(told[0], BaseException)
    assert await metadata.read(both) == 0
