"""No frequent query reads a whole table, according to the databases' own plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tawara.metadata import (
    backlog,
    device_liveness,
    diagnosis,
    files,
    fsck,
    journals,
    key_listing,
    placement_counts,
    queues,
    rebalance,
    replicas,
    scrub,
    traces,
)
from tawara.metadata.contract import Metadata, QueryCall, Row, Transaction
from tawara.model.files import NewFile, TaskType
from tawara.model.rebalance import RebalancePolicy, RebalanceState

ROWS = 4000


class Undo(Exception):
    """Rolls a transaction back."""


async def fill(tx: Transaction) -> None:
    """Many rows in every table that grows with the files."""
    key = tx.dialect.key_value
    numbers = range(1, ROWS)
    await tx.run_many(
        f"INSERT INTO file (fid, dmid, dkey, length, classid, devcount) VALUES (?, 1, {key}, 1, 0, 2)",
        [(n, b"key/%06d" % n) for n in numbers],
    )
    await tx.run_many("INSERT INTO tawara_file (fid, stored_at) VALUES (?, 1)", [(n,) for n in numbers])
    await tx.run_many("INSERT INTO checksum (fid, hashtype, checksum) VALUES (?, 1, ?)", [(n, b"x") for n in numbers])
    await tx.run_many("INSERT INTO file_on (fid, devid) VALUES (?, ?)", [(n, d) for n in numbers for d in (1, 2)])
    for table, column in (("file_to_replicate", "nexttry"), ("file_to_delete2", "nexttry")):
        await tx.run_many(f"INSERT INTO {table} (fid, {column}) VALUES (?, ?)", [(n, n) for n in numbers])
    for kind in (1, 2):
        await tx.run_many(
            "INSERT INTO file_to_queue (fid, type, devid, nexttry) VALUES (?, ?, 1, ?)", [(n, kind, n) for n in numbers]
        )
    await tx.run_many("INSERT INTO fsck_log (utime, fid, evcode) VALUES (?, ?, 'MISS')", [(n, n) for n in numbers])
    await tx.run_many(
        "INSERT INTO tawara_scrub_log (utime, fid, evcode) VALUES (?, ?, 'MISS')", [(n, n) for n in numbers]
    )
    await tx.run_many("INSERT INTO tawara_copy (fid, devid, lease) VALUES (?, 1, ?)", [(n, n) for n in numbers])
    await tx.run_many("INSERT INTO tawara_note (devid, fid) VALUES (?, ?)", [(n % 7, n) for n in numbers])
    await tx.run_many(
        "INSERT INTO tawara_reason (fid, work, noted_at, reason) VALUES (?, 'check', ?, 'x')", [(n, n) for n in numbers]
    )
    await tx.run_many(
        "INSERT INTO tawara_deleted (fid, dmid, keyhash, deleted_at) VALUES (?, 1, ?, ?)",
        [(n, f"{n:040x}", n) for n in numbers],
    )
    await tx.run_many(
        f"INSERT INTO tempfile (fid, createtime, classid, dmid, dkey, devids) VALUES (?, ?, 0, 1, {key}, '1')",
        [(n + ROWS, n, b"upload/%06d" % n) for n in numbers],
    )
    await tx.advance("tempfile", "fid", 2 * ROWS)


class Explained:
    """A transaction that also records the plan of every statement that it executes."""

    def __init__(self, tx: Transaction, plans: dict[str, list[Row]]) -> None:
        self._tx = tx
        self._plans = plans
        self.dialect = tx.dialect

    async def rows(self, sql: str, *values: object) -> list[Row]:
        await self._note(sql, values)
        return await self._tx.rows(sql, *values)

    async def row(self, sql: str, *values: object) -> Row | None:
        await self._note(sql, values)
        return await self._tx.row(sql, *values)

    async def run(self, sql: str, *values: object) -> int:
        if not sql.startswith("INSERT"):
            await self._note(sql, values)
        return await self._tx.run(sql, *values)

    async def run_many(self, sql: str, values: Sequence[Sequence[object]]) -> None:
        for each in values:
            await self.run(sql, *each)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def _note(self, sql: str, values: Sequence[object]) -> None:
        word = {"sqlite": "EXPLAIN QUERY PLAN", "mysql": "EXPLAIN FORMAT=TRADITIONAL"}.get(self.dialect.name, "EXPLAIN")
        self._plans[sql] = await self._tx.rows(f"{word} {sql}", *values)


def scans(engine: str, plan: list[Row]) -> list[str]:
    """The lines of a plan that read a whole table."""
    if engine == "sqlite":
        return [row[3] for row in plan if row[3].startswith("SCAN") and row[3] not in ("SCAN s", "SCAN CONSTANT ROW")]
    if engine == "postgresql":
        return [row[0] for row in plan if "Seq Scan" in row[0]]
    # id, select_type, table, (MySQL: partitions,) type, possible_keys, key, …; a table in <> is a page of rows that
    # were found already
    whole = ("ALL", "index")
    return [str(row) for row in plan if row[4 if len(row) == 12 else 3] in whole and not str(row[2]).startswith("<")]


QUERIES: dict[str, tuple[Any, dict[str, Any]]] = {
    "find": (files.find, {"dmid": 1, "key": b"key/000050"}),
    "find_fid": (files.find_fid, {"fid": 50}),
    "find_upload": (files.find_upload, {"fid": ROWS + 50}),
    "list_keys": (files.list_keys, {"dmid": 1, "prefix": b"key/0000", "after": b"key/000050", "limit": 20}),
    "list_files": (files.list_files, {"dmid": 1, "prefix": b"key/0000", "after": b"key/000050", "limit": 20}),
    "list_page": (
        key_listing.page,
        {"dmid": 1, "prefix": b"key/", "delimiter": b"/", "after": b"key/000050", "limit": 20},
    ),
    "list_page_whole": (
        key_listing.page,
        {"dmid": 1, "prefix": b"", "delimiter": b"/", "after": b"key/", "limit": 20, "after_prefix": True},
    ),
    "list_fids": (files.list_fids, {"after": 50, "count": 20}),
    "open_upload": (files.open_upload, {"dmid": 1, "key": b"new", "classid": 0, "devids": (1,), "now": 1}),
    "close_upload": (
        files.close_upload,
        {"file": NewFile(ROWS + 50, 1, b"key/000050", length=1, classid=0, devids=(1,)), "now": 1},
    ),
    "expire_uploads": (files.expire_uploads, {"before": 10, "now": 1}),
    "delete": (files.delete, {"dmid": 1, "key": b"key/000050", "now": 1}),
    "rename": (files.rename, {"dmid": 1, "from_key": b"key/000052", "to_key": b"other"}),
    "set_class": (files.set_class, {"dmid": 1, "key": b"key/000053", "classid": 4}),
    "claim_replications": (queues.claim_replications, {"limit": 5, "now": 100}),
    "claim_deletions": (queues.claim_deletions, {"limit": 5, "now": 100}),
    "next_replication": (queues.next_replication, {}),
    "next_urgent": (queues.next_urgent, {}),
    "devices_of": (replicas.devices_of, {"fid": 50}),
    "record_copy": (replicas.record_copy, {"fid": 50, "devid": 1, "now": 1}),
    "claim_abandoned_copies": (replicas.claim_abandoned_copies, {"now": 10}),
    "drop_replica": (replicas.drop_replica, {"fid": 50, "devid": 1}),
    "find_fids": (files.find_fids, {"fids": [60, 61, 62]}),
    "claim_tasks": (queues.claim_tasks, {"task_type": TaskType.CHECK, "limit": 5, "now": 100}),
    "next_task_due": (queues.next_task_due, {"task_type": TaskType.MOVE}),
    "case_of_fid": (diagnosis.case_of_fid, {"fid": 50, "name": "", "now": 100}),
    "case_of_key": (diagnosis.case_of_key, {"dmid": 1, "key": b"key/000050", "name": "", "now": 100}),
    "last_deleted": (traces.last_deleted, {"dmid": 1, "key": b"gone"}),
    "forget": (traces.forget, {"now": 10**6, "limit": 5}),
    "queues": (backlog.queues, {"now": 5}),
    "files_from": (placement_counts.files_from, {"after": 50, "limit": 20}),
    "touched": (placement_counts.touched, {"devids": [3]}),
    "log_after": (fsck.log_after, {"logid": 50}),
    "scrub_log_after": (scrub.log_after, {"logid": 50}),
    "urgency": (queues.urgency, {"fid": 50, "now": 1}),
    "noted": (journals.noted, {"devid": 3, "limit": 20}),
    "sweep": (journals.sweep, {"devid": 2, "after": 50, "limit": 20}),
    "oldest_of_device": (
        rebalance.next_files,
        {"chosen": RebalancePolicy(), "at": RebalanceState(sdev_current=1, sdev_lastfid=50), "limit": 20},
    ),
    "newest_of_device": (
        rebalance.next_files,
        {"chosen": RebalancePolicy(newest_first=True), "at": RebalanceState(sdev_current=1), "limit": 20},
    ),
}


@pytest.fixture
async def filled(metadata: Metadata, engine: str) -> Metadata:
    """A database with many files and current statistics."""

    async def analyse(tx: Transaction) -> None:
        from tawara.metadata.schema import tables

        for table in tables.tables:
            await tx.run(f'ANALYZE {"TABLE " if engine == "mysql" else ""}"{table}"')

    await metadata.write(fill)
    await metadata.write(analyse)
    return metadata


async def test_frequent_queries_use_indexes(filled: Metadata, engine: str) -> None:
    """No statement of the frequent queries reads a whole table or index, single or batched."""
    plans: dict[str, list[Row]] = {}

    async def explain(tx: Transaction) -> None:
        spy: Any = Explained(tx, plans)
        for query, arguments in QUERIES.values():
            await query(spy, **arguments)
        batched = getattr(files.find, "batched")  # noqa: B009 the decorator's mark is not typed
        await batched(spy, [QueryCall((1, b"key/%06d" % n), {}) for n in range(60, 77)])
        raise Undo

    with pytest.raises(Undo):
        await filled.write(explain)
    assert len(plans) > 25
    bad = {sql: found for sql, plan in plans.items() if (found := scans(engine, plan))}
    for sql in bad:
        print(sql[:120], *(str(row) for row in plans[sql]), sep="\n   ")
    assert bad == {}


async def test_queueing_the_files_of_a_device_uses_indexes(filled: Metadata, engine: str) -> None:
    """The replicas are not read completely for a device's next files, in any pass, nor the queue beyond a limit."""
    plans: dict[str, list[Row]] = {}

    async def explain(tx: Transaction) -> None:
        spy: Any = Explained(tx, plans)
        for devid, liveness, pass_ in ((1, "presumed dead", 0), (2, "presumed dead", 1), (1, "returned", 1)):
            await tx.run("DELETE FROM tawara_absent WHERE devid = ?", devid)
            await tx.run(
                "INSERT INTO tawara_absent (devid, standing, since, seconds, counted_at, queue_pass, queue_fid)"
                " VALUES (?, ?, 1, 1, 1, ?, 50)",
                devid,
                liveness,
                pass_,
            )
            assert await device_liveness.queue_files(spy, devid, limit=20, waiting=2 * ROWS) == 20
        assert await device_liveness.queue_files(spy, 1, waiting=ROWS // 2) is None
        raise Undo

    with pytest.raises(Undo):
        await filled.write(explain)
    few = (" tawara_absent ", "FROM file_to_replicate LIMIT ?)")  # a row for each device, and rows up to a limit
    asked = {sql: plan for sql, plan in plans.items() if not any(each in sql for each in few)}
    assert any("FROM file_on o" in sql for sql in asked)
    assert {sql: found for sql, plan in asked.items() if (found := scans(engine, plan))} == {}
