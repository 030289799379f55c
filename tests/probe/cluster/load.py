"""A constant mixed load by real clients that record their results, with which the store is checked. Every key belongs
to one client that makes one request after another for it. So the possible results of a read are known at any time: the
last acknowledged change. When a response is lost, the change may have been made, or be made at any later time: both
contents are possible from then on, and the key is not used any more."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp

from tawara.client import AsyncClient
from tawara.model.errors import TawaraError, UnknownKey
from tests.probe.cluster.machines import DOMAIN, SECRET, Machines

CLIENTS = 16
RATE = 64.0
"""Requests that all clients together make in a second, as long as they are answered in time."""
TIMEOUT = 20.0
"""Seconds after which a client gives up a request."""
REST = 10.0
"""Seconds for which a gateway that did not answer is not asked, if there is another one."""
READERS = 24
"""Files that are read again at the same time when all are over."""


class Verb(StrEnum):
    """A kind of request."""

    PUT = "put"
    OVERWRITE = "overwrite"
    GET = "get"
    GET_DELETED = "get deleted"
    DELETE = "delete"


WEIGHTS = {Verb.PUT: 35, Verb.OVERWRITE: 12, Verb.GET: 38, Verb.GET_DELETED: 5, Verb.DELETE: 10}

Digest = str | None
"""Of a content; None where there is no file."""


class Absent(Exception):
    """The store reports that the file does not exist."""


class Failed(Exception):
    """The store refuses, or does not respond."""


@dataclass
class Belief:
    """The possible contents of a key."""

    storage_class: str
    possible: set[Digest]
    settled: bool = True
    """Whether everything that was asked for was also answered."""

    @property
    def only(self) -> Digest:
        """The only possible content."""
        (digest,) = self.possible
        return digest


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. Times are of the monotonic clock."""

    verb: Verb
    began: float
    ended: float
    failure: str | None


@dataclass
class Load:
    """The clients, and their records."""

    machines: Machines
    rng: random.Random
    rate: float = RATE
    beliefs: dict[str, Belief] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    denials: list[str] = field(default_factory=list)
    """Answers that no acknowledged history allows: other bytes, no file where one is, a file where none is."""
    reads_may_rot: bool = False
    """Whether bytes are flipped on the disks just now, so that a read that verifies nothing may show them."""
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _http: aiohttp.ClientSession | None = None
    _number: int = 0

    # --- running ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the clients."""
        self._ended = asyncio.Event()
        self._tasks = [asyncio.create_task(self._client(number), name=f"client {number}") for number in range(CLIENTS)]

    async def stop(self) -> None:
        """Let every client finish its current request."""
        self._ended.set()
        await asyncio.gather(*self._tasks)

    async def some_more(self, count: int) -> None:
        """Wait for so many more successful requests."""
        wanted = self._done() + count
        async with asyncio.timeout(60):
            while self._done() < wanted:
                self.check_clients()
                await asyncio.sleep(0.05)

    def check_clients(self) -> None:
        """Raise the exception that ended a client, if any."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _done(self) -> int:
        return sum(1 for each in self.outcomes if each.failure is None)

    def between(self, began: float, ended: float) -> list[Outcome]:
        """The requests that ended in an interval."""
        return [each for each in self.outcomes if began <= each.ended < ended]

    async def _client(self, number: int) -> None:
        rng = random.Random(self.rng.random())
        mine: dict[str, Belief] = {}
        async with self.machines.client() as client, aiohttp.ClientSession() as http:
            accesses: list[Access] = [ByTracker(client), ByGateway(http, self.machines.gateways, rng)]
            next_one = time.monotonic() + rng.random() * CLIENTS / self.rate
            while not self._ended.is_set():
                pause = next_one - time.monotonic()
                next_one = (
                    max(next_one, time.monotonic() - 1) + CLIENTS / self.rate
                )  # what was missed is not made up for
                if pause > 0:
                    await asyncio.sleep(pause)
                await self._one(rng, rng.choice(accesses), mine, number)

    async def _one(self, rng: random.Random, access: Access, mine: dict[str, Belief], number: int) -> None:
        verb = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        settled = [key for key, belief in mine.items() if belief.settled]
        there = [key for key in settled if mine[key].only is not None]
        gone = [key for key in settled if mine[key].only is None]
        match verb:
            case Verb.OVERWRITE | Verb.GET | Verb.DELETE if there:
                key = rng.choice(there)
            case Verb.GET_DELETED if gone:
                key = rng.choice(gone)
            case _:
                verb, key = Verb.PUT, self._new_key(number)
                mine[key] = self.beliefs[key] = Belief(rng.choice(("", "", "three")), {None})
        belief = mine[key]
        match verb:
            case Verb.PUT | Verb.OVERWRITE:
                content = rng.randbytes(_size(rng))
                await self._change(
                    verb, belief, _digest(content), lambda: access.put(key, content, belief.storage_class)
                )
            case Verb.DELETE:
                await self._change(verb, belief, None, lambda: access.delete(key))
            case _:
                await self._look(verb, key, belief, access)

    def _new_key(self, number: int) -> str:
        self._number += 1
        return f"{number}/{self._number}"

    async def _change(self, verb: Verb, belief: Belief, to: Digest, change: Callable[[], Awaitable[None]]) -> None:
        """Make a change, recorded with its possible results before it begins."""
        before = set(belief.possible)
        belief.possible, belief.settled = before | {to}, False
        if await self._timed(verb, change) is None:
            belief.possible, belief.settled = {to}, True

    async def _look(self, verb: Verb, key: str, belief: Belief, access: Access) -> None:
        found: list[Digest] = []

        async def get() -> None:
            found.append(await _read(access, key))

        await self._timed(verb, get)
        if found and found[0] != belief.only:
            if self.reads_may_rot and found[0] is not None and belief.only is not None:
                return
            self.denials.append(
                f"{key} by {access.name}: {_words(belief.possible)} was acknowledged, {_words(found)} is read"
            )

    async def _timed(self, verb: Verb, request: Callable[[], Awaitable[None]]) -> str | None:
        """Make a request; return why it failed, if it did."""
        began = time.monotonic()
        failure: str | None = None
        try:
            async with asyncio.timeout(TIMEOUT):
                await request()
        except Absent:
            failure = "there is no such file"  # of a change: a request that was repeated may have made it
        except (Failed, TimeoutError) as error:
            failure = str(error) or "no answer in time"
        self.outcomes.append(Outcome(verb, began, time.monotonic(), failure))
        return failure

    # --- judging ------------------------------------------------------------------------------------------------------

    async def read_all(self, keys: Iterable[str]) -> list[str]:
        """Read keys as clients do, by tracker and gateway alternately; return the wrong ones with a description."""
        wrong: list[str] = []
        waiting = list(keys)
        async with self.machines.client() as client, aiohttp.ClientSession() as http:
            accesses: list[Access] = [ByTracker(client), ByGateway(http, self.machines.gateways, self.rng)]

            async def reader(access: Access) -> None:
                while waiting:
                    key = waiting.pop()
                    possible = self.beliefs[key].possible
                    try:
                        async with asyncio.timeout(TIMEOUT):
                            found = await _read(access, key)
                    except (Failed, TimeoutError) as error:
                        if possible != {None}:
                            wrong.append(f"{key} by {access.name}: {_words(possible)} cannot be read: {error}")
                        continue
                    if found not in possible:
                        wrong.append(f"{key} by {access.name}: {_words(possible)} must be there, {_words([found])} is")

            await asyncio.gather(*(reader(accesses[turn % 2]) for turn in range(READERS)))
        return wrong


# --- access to the store ----------------------------------------------------------------------------------------------


class Access:
    """An interface of the store. Raises Failed if the result is unknown, and Absent."""

    name = ""

    async def put(self, key: str, content: bytes, storage_class: str) -> None:
        """Store."""
        raise NotImplementedError

    async def get(self, key: str) -> bytes:
        """Read."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Delete."""
        raise NotImplementedError


class ByTracker(Access):
    """As MogileFS's clients do: ask a tracker, and use the storage nodes."""

    name = "tracker"

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def put(self, key: str, content: bytes, storage_class: str) -> None:
        """See Access."""
        await _mapped(self._client.put(DOMAIN, key, content, storage_class=storage_class))

    async def get(self, key: str) -> bytes:
        """See Access."""
        return await _mapped(self._client.get(DOMAIN, key))

    async def delete(self, key: str) -> None:
        """See Access."""
        await _mapped(self._client.delete(DOMAIN, key))


async def _mapped(request: Awaitable[object]) -> bytes:
    try:
        found = await request
    except UnknownKey as error:
        raise Absent from error
    except TawaraError as error:
        raise Failed(f"{error.code}: {error}") from error
    return found if isinstance(found, bytes) else b""


class ByGateway(Access):
    """By HTTP. A gateway that does not respond is not used for a while, as by load balancers (nginx's
    `fail_timeout`)."""

    name = "gateway"

    def __init__(self, http: aiohttp.ClientSession, gateways: list[str], rng: random.Random) -> None:
        self._http, self._gateways, self._rng = http, gateways, rng
        self._skip_until = dict.fromkeys(gateways, 0.0)

    async def put(self, key: str, content: bytes, storage_class: str) -> None:
        """See Access."""
        query = f"?class={storage_class}" if storage_class else ""
        await self._ask("PUT", f"{key}{query}", content)

    async def get(self, key: str) -> bytes:
        """See Access."""
        return await self._ask("GET", key)

    async def delete(self, key: str) -> None:
        """See Access."""
        await self._ask("DELETE", key)

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        gateways = self._rng.sample(self._gateways, len(self._gateways))
        gateways.sort(key=lambda each: self._skip_until[each] > time.monotonic())
        times = aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=2, sock_read=12)
        for number, gateway in enumerate(gateways, 1):
            try:
                async with self._http.request(
                    method, f"http://{gateway}/{DOMAIN}/{path}", data=body, timeout=times,
                    headers={"Authorization": f"Bearer {SECRET}"},
                ) as answer:  # fmt: skip
                    text = await answer.read()
                    if answer.status == 404:
                        raise Absent
                    if answer.status not in (200, 201, 204):
                        raise Failed(f"{answer.status} {text[:100].decode(errors='replace').strip()}")
                    return text
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                self._skip_until[gateway] = time.monotonic() + REST
                if number == len(gateways):
                    raise Failed(f"not connected: {error}") from error
            except (aiohttp.ClientError, TimeoutError) as error:
                self._skip_until[gateway] = time.monotonic() + REST
                raise Failed(f"{type(error).__name__}: {error}") from error
        raise Failed("there is no gateway")


async def _read(access: Access, key: str) -> Digest:
    try:
        return _digest(await access.get(key))
    except Absent:
        return None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _size(rng: random.Random) -> int:
    """Mostly small; one in thirty is large enough to be streamed."""
    return rng.randrange(300_000, 3_000_000) if rng.random() < 1 / 30 else rng.randrange(20_000)


def _words(digests: Iterable[Digest]) -> str:
    return " or ".join(sorted(digest or "no file" for digest in digests))
