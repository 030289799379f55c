"""The promises of `contract.Metadata` and `contract.Transaction`, on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tawara.metadata import cluster, files, queues
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.errors import Dup, KeyExists, NoTempFile, TawaraError

Opener = Callable[[], Awaitable[Metadata]]


class Deliberate(Exception):
    """An exception that a change raises on purpose."""


async def put(tx: Transaction, field: str, value: str) -> None:
    await tx.run("INSERT INTO server_settings (field, value) VALUES (?, ?)", field, value)


async def add(tx: Transaction, field: str, amount: int) -> int:
    row = await tx.row(f"SELECT value FROM server_settings WHERE field = ?{tx.dialect.for_update}", field)
    assert row is not None
    total = int(row[0]) + amount
    await tx.run("UPDATE server_settings SET value = ? WHERE field = ?", str(total), field)
    return total


async def test_a_change_that_raises_is_rolled_back(metadata: Metadata) -> None:
    """When a change raises, its caller gets the exception and nothing of it is in the database."""

    async def change(tx: Transaction) -> None:
        await put(tx, "gone", "1")
        raise Deliberate

    with pytest.raises(Deliberate):
        await metadata.write(change)
    assert await metadata.read(cluster.get_setting, "gone") is None


async def test_batched_changes_fail_alone(metadata: Metadata) -> None:
    """Of many concurrent changes, those that raise fail, and all others are committed."""

    async def change(tx: Transaction, number: int) -> int:
        await put(tx, f"n{number}", "1")
        if number % 3 == 0:
            raise Deliberate
        if number % 3 == 1:
            await put(tx, f"n{number}", "twice")
        return number

    results = await asyncio.gather(*(metadata.write(change, n) for n in range(60)), return_exceptions=True)
    for number, result in enumerate(results):
        stored = await metadata.read(cluster.get_setting, f"n{number}")
        if number % 3 == 2:
            assert (result, stored) == (number, "1")
        else:
            assert isinstance(result, Deliberate if number % 3 == 0 else Dup)
            assert stored is None


async def test_a_read_sees_earlier_commits(metadata: Metadata, opener: Opener) -> None:
    """An acknowledged change is seen by the next read, in this process and in another one."""
    other = await opener()
    for number in range(20):
        await metadata.write(cluster.set_setting, "n", str(number))
        assert await metadata.read(cluster.get_setting, "n") == str(number)
        assert await other.read(cluster.get_setting, "n") == str(number)


async def test_a_read_of_several_statements_sees_one_snapshot(metadata: Metadata, opener: Opener) -> None:
    """A change between two statements of a read is not seen by the second."""
    other = await opener()
    await metadata.write(cluster.set_setting, "a", "0")
    await metadata.write(cluster.set_setting, "b", "0")

    async def change(tx: Transaction, number: int) -> None:
        await cluster.set_setting(tx, "a", str(number))
        await cluster.set_setting(tx, "b", str(number))

    async def look(tx: Transaction) -> tuple[str | None, str | None]:
        return await cluster.get_setting(tx, "a"), await cluster.get_setting(tx, "b")

    async def many_changes() -> None:
        for number in range(100):
            await other.write(change, number)

    changing = asyncio.create_task(many_changes())
    while not changing.done():
        a, b = await metadata.read(look)
        assert a == b
        await asyncio.sleep(0)
    await changing


async def test_changes_of_one_row_are_serialised(metadata: Metadata, opener: Opener) -> None:
    """Concurrent read-modify-write changes of a locked row lose no update, on two trackers at once."""
    other = await opener()
    await metadata.write(put, "counter", "0")
    totals = await asyncio.gather(*((metadata, other)[n % 2].write(add, "counter", 1) for n in range(100)))
    assert sorted(totals) == list(range(1, 101))
    assert await metadata.read(cluster.get_setting, "counter") == "100"


async def test_a_cancelled_caller_has_no_effect_on_others(metadata: Metadata) -> None:
    """Cancelling some callers leaves all others their results and the engine working."""
    await metadata.write(put, "counter", "0")
    for _ in range(5):
        waiting = [asyncio.create_task(metadata.write(add, "counter", 1)) for _ in range(20)]
        looking = [asyncio.create_task(metadata.read(files.find, 1, b"k")) for _ in range(20)]
        await asyncio.sleep(0)
        for task in (*waiting[::2], *looking[::2]):
            task.cancel()
        results = await asyncio.gather(*waiting, *looking, return_exceptions=True)
        for task, result in zip((*waiting[1::2], *looking[1::2]), (*results[1:20:2], *results[21::2]), strict=True):
            assert not task.cancelled()
            assert result is None or isinstance(result, int)
    total = await metadata.read(cluster.get_setting, "counter")
    assert total is not None
    assert 50 <= int(total) <= 100


async def test_insert_continues_after_a_duplicate(metadata: Metadata) -> None:
    """`insert` gives increasing numbers; when it raises Dup the transaction can continue and be committed."""
    insert = "INSERT INTO tempfile (createtime, classid, dmid, devids) VALUES (1, 0, 1, '')"
    twice = "INSERT INTO tempfile (fid, createtime, classid, dmid, devids) VALUES (?, 1, 0, 1, '')"

    async def change(tx: Transaction) -> tuple[int, int]:
        first = await tx.insert(insert, "fid")
        with pytest.raises(Dup):
            await tx.insert(twice, "fid", first)
        return first, await tx.insert(insert, "fid")

    first, second = await metadata.write(change)
    assert 0 < first < second
    assert await metadata.read(files.find_upload, second) is not None


async def test_a_violated_unique_key_is_dup(metadata: Metadata) -> None:
    """A change that violates a unique key, on every try, raises Dup."""
    await metadata.write(put, "a", "1")
    with pytest.raises(Dup):
        await metadata.write(put, "a", "2")
    assert await metadata.read(cluster.get_setting, "a") == "1"


async def test_run_returns_the_number_of_rows(metadata: Metadata) -> None:
    """`run` counts the rows that matched, also if the new value equals the old one, and 0 for an ignored insert."""

    async def change(tx: Transaction) -> list[int]:
        insert = tx.dialect.insert_or_ignore("file_on", ("fid", "devid"))
        return [
            await tx.run(insert, 1, 1),
            await tx.run(insert, 1, 1),
            await tx.run("UPDATE file_on SET devid = 1 WHERE fid = ?", 1),
            await tx.run("DELETE FROM file_on WHERE fid = ?", 1),
            await tx.run("DELETE FROM file_on WHERE fid = ?", 1),
        ]

    assert await metadata.write(change) == [1, 0, 1, 1, 0]


async def test_an_upsert_overwrites(metadata: Metadata) -> None:
    """`upsert` inserts a row or overwrites the columns of the one with that key."""

    async def change(tx: Transaction) -> None:
        upsert = tx.dialect.upsert("file_to_replicate", ("fid",), ("nexttry", "fromdevid", "failcount", "flags"))
        await tx.run(upsert, 1, 5, None, 3, 0)
        await tx.run(upsert, 1, 6, 2, 0, 0)

    await metadata.write(change)
    (row,) = await metadata.write(queues.claim_replications, limit=5, now=10)
    assert (row.from_devid, row.failcount) == (2, 0)


async def test_values_keep_their_types(metadata: Metadata) -> None:
    """Large integers, NULL, text beyond the Basic Multilingual Plane, quotes, backslashes and `%` survive."""
    text = "俵🌾 'q' \"d\" \\ %s %% ? \n"

    async def change(tx: Transaction) -> None:
        await put(tx, "text ? '", text)
        await tx.run("INSERT INTO tawara_file (fid, stored_at, content_type) VALUES (?, ?, ?)", 2**62, 2**40, None)

    await metadata.write(change)
    assert await metadata.read(cluster.get_setting, "text ? '") == text

    async def look(tx: Transaction) -> object:
        return await tx.row("SELECT fid, stored_at, content_type, '?' FROM tawara_file WHERE fid = ?", 2**62)

    row = await metadata.read(look)
    assert isinstance(row, tuple)
    assert row == (2**62, 2**40, None, "?")


async def test_errors_of_the_model_pass_through(metadata: Metadata) -> None:
    """A change that raises an error of the model is not retried, and its caller gets that error."""
    tries = 0

    async def change(tx: Transaction) -> None:
        nonlocal tries
        tries += 1
        raise KeyExists

    with pytest.raises(KeyExists):
        await metadata.write(change)
    assert tries == 1
    with pytest.raises(NoTempFile):
        await metadata.write(files.discard_upload, 12345, now=1)


async def test_an_invalid_statement_is_db(metadata: Metadata) -> None:
    """An error of the database never reaches the caller as the driver's exception, and the engine continues."""

    async def change(tx: Transaction) -> None:
        await tx.run("UPDATE no_such_table SET x = 1")

    async def look(tx: Transaction) -> None:
        await tx.rows("SELECT nothing FROM no_such_table")

    with pytest.raises(TawaraError):
        await metadata.write(change)
    with pytest.raises(TawaraError):
        await metadata.read(look)
    await metadata.write(put, "a", "1")
    assert await metadata.read(cluster.get_setting, "a") == "1"


async def test_close_finishes_pending_changes(metadata: Metadata, opener: Opener) -> None:
    """Changes requested before `close` are made; later ones raise an error."""
    changes = [asyncio.create_task(metadata.write(put, f"n{n}", "1")) for n in range(30)]
    await asyncio.sleep(0)
    await metadata.close()
    await asyncio.gather(*changes)
    with pytest.raises(TawaraError):
        await metadata.write(put, "late", "1")
    other = await opener()
    assert len((await other.read(cluster.load)).settings) >= 30
