"""Retries after failures of a database server, with a scripted fake server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from tawara.metadata.contract import Transaction
from tawara.metadata.dialect import StandardDialect
from tawara.metadata.server import ConnectionLost, Link, NoReply, ServerLimits, ServerMetadata, TransactionConflict
from tawara.model.errors import DatabaseUnavailable, Db

PACE = ServerLimits(answer=0.3, unreachable=0.02)


class FakeServer:
    """Does at each step what the next entry of `plan` says: None works, an exception is raised, `hang` never ends."""

    def __init__(self, **plan: list[object]) -> None:
        self.plan = plan
        self.steps: list[str] = []

    async def step(self, name: str) -> None:
        self.steps.append(name)
        todo = self.plan.get(name, [])
        fault = todo.pop(0) if todo else None
        if fault == "hang":
            await asyncio.Event().wait()
        if isinstance(fault, Exception):
            raise fault

    async def connect(self) -> Link:
        await self.step("connect")
        return cast("Link", FakeLink(self))


class FakeLink:
    """A connection to it."""

    dialect = StandardDialect()

    def __init__(self, server: FakeServer) -> None:
        self.server = server

    async def begin(self, *, snapshot: bool) -> None:
        await self.server.step("begin")

    async def run(self, sql: str, *values: object) -> int:
        await self.server.step("run")
        return 1

    async def row(self, sql: str, *values: object) -> None:
        await self.server.step("row")

    async def commit(self) -> None:
        await self.server.step("commit")

    async def rollback(self) -> None:
        await self.server.step("rollback")

    async def close(self) -> None:
        return

    def terminate(self) -> None:
        self.server.steps.append("terminate")

    def __getattr__(self, name: str) -> Callable[..., object]:
        raise AssertionError(f"{name} is not of these tests")


@asynccontextmanager
async def metadata_of(server: FakeServer) -> AsyncIterator[ServerMetadata]:
    metadata = ServerMetadata(server.connect, PACE)
    yield metadata
    await metadata.close()


async def change(tx: Transaction) -> int:
    return await tx.run("UPDATE t SET a = 1")


async def look(tx: Transaction) -> object:
    return await tx.row("SELECT 1")


@pytest.mark.parametrize(
    "plan",
    [
        {"begin": [ConnectionLost()]},
        {"run": [ConnectionLost()]},
        {"run": [ConnectionLost(), ConnectionLost()]},
        {"run": [TransactionConflict()]},
        {"commit": [TransactionConflict()]},
    ],
    ids=["lost at begin", "lost in a statement", "lost twice", "deadlock", "refused by certification"],
)
async def test_an_uncommitted_change_is_retried(plan: dict[str, list[object]]) -> None:
    """After a connection lost before COMMIT, a deadlock, or a refused COMMIT, the change is made all the same."""
    server = FakeServer(**plan)
    async with metadata_of(server) as metadata:
        assert await metadata.write(change) == 1
    assert server.steps[-1] == "commit"


@pytest.mark.parametrize(
    "fault", [ConnectionLost(), Db("Database error: odd"), "hang"], ids=["lost", "error", "no answer"]
)
async def test_a_change_that_may_be_committed_is_not_repeated(fault: object) -> None:
    """An interrupted COMMIT is sent once; the error says that the outcome is unknown."""
    server = FakeServer(commit=[fault])
    async with metadata_of(server) as metadata:
        with pytest.raises(NoReply):
            await metadata.write(change)
    assert server.steps.count("commit") == server.steps.count("run") == 1


@pytest.mark.parametrize(
    "plan",
    [{"connect": [ConnectionLost()] * 9}, {"run": [ConnectionLost()] * 9}, {"run": ["hang"]}],
    ids=["no server", "lost", "hangs"],
)
async def test_without_a_commit_the_change_is_undone(plan: dict[str, list[object]]) -> None:
    """If no COMMIT was sent the error is DatabaseUnavailable, so that another tracker may retry."""
    server = FakeServer(**plan)
    async with metadata_of(server) as metadata:
        with pytest.raises(DatabaseUnavailable):
            await metadata.write(change)
    assert "commit" not in server.steps


async def test_a_read_never_has_an_unknown_outcome() -> None:
    """A read has nothing to commit: it is retried after any loss, or fails with DatabaseUnavailable."""

    async def look_twice(tx: Transaction) -> object:
        await tx.row("SELECT 1")
        return await tx.row("SELECT 2")

    server = FakeServer(commit=[ConnectionLost()])
    async with metadata_of(server) as metadata:
        assert await metadata.read(look_twice) is None
    server = FakeServer(commit=["hang"])
    async with metadata_of(server) as metadata:
        with pytest.raises(DatabaseUnavailable):
            await metadata.read(look_twice)


async def test_callers_share_one_reconnection_attempt() -> None:
    """After a failure, calls fail without waiting for a time limit, however many there are, and one attempt is made."""
    server = FakeServer(connect=[ConnectionLost("refused"), "hang"])
    async with metadata_of(server) as metadata:
        with pytest.raises(DatabaseUnavailable):
            await metadata.read(look)
        answers = await asyncio.gather(*(metadata.write(change) for _ in range(100)), return_exceptions=True)
        assert {type(each) for each in answers} == {DatabaseUnavailable}
        assert "refused" in str(answers[0])
    assert server.steps == ["connect", "connect"]


async def test_the_first_call_after_the_return_succeeds() -> None:
    """The first call after the server's return succeeds; there is no period without attempts."""
    server = FakeServer(connect=[ConnectionLost()] * 4)
    async with metadata_of(server) as metadata:
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await metadata.write(change)
        server.plan.clear()
        assert await metadata.write(change) == 1


async def test_after_a_timeout_the_next_call_reconnects() -> None:
    """After a query timed out, the next ones wait for a new connection, not for the time limit."""
    server = FakeServer(row=["hang"])
    async with metadata_of(server) as metadata:
        with pytest.raises(DatabaseUnavailable):
            await metadata.read(look)
        server.plan["connect"] = ["hang"]
        with pytest.raises(DatabaseUnavailable, match="no answer in time"):
            await metadata.read(look)
