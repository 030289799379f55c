"""Clients on several trackers use a few keys while trackers and the database are killed, and a checker looks for a
history. The clients use the line protocol and pass every result to the checker (`histories`); calls with a lost reply
may have had an effect or not. The final content of the database must agree."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tawara.metadata.contract import Transaction
from tawara.metadata.open import open_metadata
from tawara.wire.line import AcceptedRequest, Args, RefusedRequest, decode_reply, encode_request
from tests.acceptance.conftest import database_servers
from tests.acceptance.daemons import DOMAIN, Daemon, SeparateDaemons, separate_daemons
from tests.contract.empty_database import empty_database
from tests.contract.servers import Server
from tests.probe.histories import NEVER, Answer, Call, File, Status, Verb, refuted_by

__all__ = ["database_servers"]

CLIENTS = 8
CALLS = 14
"""Calls of each client in each round."""
CLASSES = ("default", "other")
ANSWER_SECONDS = 15.0
_REFUSALS = {"unknown_key": Status.UNKNOWN_KEY, "invalid_key": Status.UNKNOWN_KEY, "key_exists": Status.KEY_EXISTS}


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the engine."""
    name: str = request.param
    return name


@pytest.fixture
def database(engine: str, database_servers: Callable[[str], Server], tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    with empty_database(engine, tmp_path, database_servers, "history") as url:
        yield url


class NoAnswer(Exception):
    """A request was sent, and its result is unknown."""


class Line:
    """Sends requests to several trackers, each once; a tracker that refuses connections is skipped."""

    def __init__(self, addresses: list[str], rng: random.Random) -> None:
        self._addresses, self._rng = addresses, rng
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, command: str, args: Args) -> AcceptedRequest | RefusedRequest:
        """The reply. Raises NoAnswer."""
        reader, writer = await self._connected()
        try:
            writer.write(encode_request(command, {"domain": DOMAIN, **args}))
            async with asyncio.timeout(ANSWER_SECONDS):
                line = await reader.readline()
        except (OSError, TimeoutError) as error:
            self.close()
            raise NoAnswer from error
        if not line.endswith(b"\n"):
            self.close()
            raise NoAnswer
        if self._rng.random() < 0.2:
            self.close()  # the next request goes to another process
        reply = decode_reply(line.strip())
        if isinstance(reply, RefusedRequest) and reply.code in ("db", "database_unavailable"):
            raise NoAnswer
        return reply

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(30):
            while self._streams is None:
                host, _, port = self._rng.choice(self._addresses).rpartition(":")
                try:
                    self._streams = await asyncio.open_connection(host, int(port))
                except OSError:
                    await asyncio.sleep(0.02)  # it is being started again
        return self._streams

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def put_byte(url: str) -> None:
    """Store one byte on a storage node."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        head = f"PUT {parts.path} HTTP/1.1\r\nHost: node\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + b"x")
        status = await reader.readline()
        assert status.split()[1] in (b"200", b"201", b"204"), status
    finally:
        writer.close()


@dataclass
class Clients:
    """The clients, and their results."""

    addresses: list[str]
    clock: int = 0
    told: list[Call] = field(default_factory=list)

    def tick(self) -> int:
        """The time; every call returns a new one."""
        self.clock += 1
        return self.clock

    async def client(self, name: int, keys: list[str]) -> None:
        """Make one client's calls to these keys, one after another."""
        rng = random.Random(f"{name} {keys[0]}")
        line = Line(self.addresses, rng)
        try:
            for _ in range(CALLS):
                verb = rng.choice((Verb.CLOSE, Verb.CLOSE, *Verb))
                key, target = rng.sample(keys, 2)
                answer = await self.call(line, verb, key, target, rng.choice(CLASSES))
                if answer is Status.LOST:
                    await self._until_answered(line, key)
        finally:
            line.close()

    async def call(self, line: Line, verb: Verb, key: str, target: str = "", storage_class: str = "") -> Answer:
        """Make one call, record it, and return its result."""
        args: dict[str, str | bytes | int] = {"key": key}
        file = None
        if verb is Verb.CLOSE:
            args |= await self._upload(line, key, storage_class)
            file = File(int(args["fid"]), storage_class)
        elif verb is Verb.RENAME:
            args = {"from_key": key, "to_key": target}
        elif verb is Verb.CLASS:
            args["class"] = storage_class
        elif verb is Verb.PATHS:
            args["noverify"] = 1
        began = self.tick()
        try:
            answer: Answer = read(verb, await line.ask(verb.value, args))
            ended = self.tick()
        except NoAnswer:
            answer, ended = Status.LOST, NEVER
        self.told.append(Call(verb, key, began, ended, answer, target, file, storage_class))
        return answer

    async def _until_answered(self, line: Line, key: str) -> None:
        """Wait until the database is up: calls meanwhile prove nothing and make histories hard to check."""
        async with asyncio.timeout(30):
            while True:
                try:
                    await line.ask("file_info", {"key": key})
                except NoAnswer:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def _upload(self, line: Line, key: str, storage_class: str) -> dict[str, bytes]:
        """Open an upload and store its byte; retry until that succeeds."""
        while True:
            try:
                opened = await line.ask("create_open", {"key": key, "class": storage_class})
            except NoAnswer:
                await asyncio.sleep(0.02)
                continue
            if isinstance(opened, RefusedRequest):
                assert opened.code == "no_devices", opened
                await asyncio.sleep(0.1)
                continue
            await put_byte(opened.args["path"].decode())
            return {name: opened.args[name] for name in ("fid", "devid", "path")}


def read(verb: Verb, reply: AcceptedRequest | RefusedRequest) -> Answer:
    """Decode a reply."""
    if isinstance(reply, RefusedRequest):
        assert reply.code in _REFUSALS, (verb, reply)
        return _REFUSALS[reply.code]
    match verb:
        case Verb.INFO:
            return File(int(reply.args["fid"]), reply.args["class"].decode())
        case Verb.PATHS:
            return int(reply.args["path1"].rpartition(b"/")[2].removesuffix(b".fid"))
        case _:
            return Status.DONE


async def _rows(tx: Transaction) -> tuple[list[int], list[int]]:
    stored = [row[0] for row in await tx.rows("SELECT fid FROM file")]
    return stored, [row[0] for row in await tx.rows("SELECT fid FROM file_to_delete2")]


def kill_one_of(daemon: Daemon, rng: random.Random) -> None:
    """Kill one of the processes of a tracker; its parent starts another."""
    os.kill(rng.choice(daemon.children()), signal.SIGKILL)


def kill_whole(daemon: Daemon) -> None:
    """Kill the tracker with all its processes, and start it again."""
    family = daemon.children()
    daemon.kill()
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    daemon.start()


def kill_database(server: Server) -> None:
    """Kill the database server, and start it again."""
    server.kill()
    server.start()


@pytest.mark.timeout(300)
async def test_calls_are_linearizable(
    tmp_path: Path, engine: str, database: str, database_servers: Callable[[str], Server]
) -> None:
    """In each round of calls to three keys a process is killed; a history explains every result of the round."""
    rng = random.Random(engine)
    with separate_daemons(tmp_path, database, nodes=1) as store:
        await asyncio.to_thread(begin, store)
        one, other = store.daemons["tracker"], store.add_tracker()
        for tracker in (one, other):  # now, for others than the one that was told learn of classes in a few seconds
            await asyncio.to_thread(tracker.start)
        disturbances: list[Callable[[], None]] = [
            lambda: None,
            *[lambda: kill_one_of(one, rng), lambda: kill_one_of(other, rng)] * 2,
            lambda: kill_whole(one),
            lambda: kill_whole(other),
        ]
        if engine != "sqlite":
            server = database_servers(engine)
            disturbances += [lambda: kill_database(server)] * 2
        clients = Clients([store.tracker, store.second_tracker])
        told: list[list[Call]] = []
        for number, disturb in enumerate(disturbances):
            clients.told = []
            await one_round(clients, [f"{number}/{letter}" for letter in "abc"], disturb)
            told.append(clients.told)
        metadata = await open_metadata(database)
        try:
            stored, deleted = await metadata.read(_rows)
        finally:
            await metadata.close()
        judge(told, set(stored), set(deleted))


async def one_round(clients: Clients, keys: list[str], disturb: Callable[[], None]) -> None:
    """Make all clients' calls; inject the fault after a third of them. Finally read every key."""
    running = [asyncio.create_task(clients.client(name, keys)) for name in range(CLIENTS)]
    try:
        async with asyncio.timeout(60):
            while len(clients.told) < CLIENTS * CALLS / 3:
                await asyncio.sleep(0.002)
                for task in running:
                    if task.done():
                        task.result()
        await asyncio.to_thread(disturb)
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    line = Line(clients.addresses, random.Random(0))
    for key in keys:
        until = asyncio.get_running_loop().time() + 30
        while not clients.told or clients.told[-1].key != key or clients.told[-1].answer is Status.LOST:
            assert asyncio.get_running_loop().time() < until
            await clients.call(line, Verb.INFO, key)
    line.close()


def judge(rounds: list[list[Call]], stored: set[int], deleted: set[int]) -> None:
    """Compare the results with all possible histories and with the final content of the database."""
    assert not stored & deleted
    for told in rounds:
        lost = [call for call in told if call.answer is Status.LOST]
        history = []
        for call in told:
            if call.answer is Status.LOST and call.verb in (Verb.INFO, Verb.PATHS):
                continue
            if call.file is not None and call.file.fid not in stored | deleted:
                # A close that took effect has left its fid somewhere: as a file, or among what is to be deleted.
                assert call.answer is Status.LOST, f"an acknowledged close is lost: {call}"
                continue
            history.append(call)
        if (wrong := refuted_by(history)) is not None:
            before = sorted((call for call in history if call.began < wrong.ended), key=lambda call: call.began)
            pytest.fail("\n".join(["no history explains the last of", *map(str, before), f"-> {wrong}"]))
        assert len(lost) < len(told) / 2, "too little was answered to judge by"
        names = [call.answer.fid for call in told[-3:] if isinstance(call.answer, File)]
        assert len(set(names)) == len(names), "one content has two keys"


def begin(store: SeparateDaemons) -> None:
    """Start a tracker and a storage node without workers, so that no data is deleted."""
    for name in ("tracker", "node1"):
        store.daemons[name].start()
    store.describe()
    store.run("class", "add", DOMAIN, "other", "--copies=1")
    store.daemons["tracker"].stop()
