"""The database is lost, on every engine: a new one is rebuilt from the journals with every file as it was. One storage
node is ours; the other supports only GET, HEAD, PUT and DELETE."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tawara.cli.database import Database
from tawara.cli.drill import drill
from tawara.cli.rebuild import rebuild
from tawara.metadata import cluster as rows
from tawara.metadata import files, journals, replicas, uploads
from tawara.metadata.contract import Transaction
from tawara.metadata.open import open_metadata
from tawara.model.cluster import DeviceState
from tawara.model.errors import Exit, InUse
from tawara.model.files import NewFile
from tawara.workers.journal_writer import JournalWriter
from tests.acceptance.recovery_fixture import DEVICES, all_rows, due, store
from tests.contract.empty_database import empty_database
from tests.contract.servers import Server

STEPS = 1500


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of both databases."""
    name: str = request.param
    return name


async def call(capsys: pytest.CaptureFixture[str], *arguments: str, **options: Any) -> dict[str, Any]:
    """The report of `tawara rebuild --json`."""
    capsys.readouterr()
    await asyncio.to_thread(rebuild, *arguments, json=True, **options)
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


@pytest.mark.timeout(240)
async def test_the_database_is_lost(
    engine: str, tmp_path: Path, database_servers: Callable[[str], Server], capsys: pytest.CaptureFixture[str]
) -> None:
    """After thousands of concurrent changes, written by two journal writers meanwhile, a rebuild has every row again.
    One device is enough to begin with; deleted files are not restored, and fids continue."""
    with (
        empty_database(engine, tmp_path, database_servers, "lost") as lost,
        empty_database(engine, tmp_path, database_servers, "new") as new,
    ):
        async with store(lost, tmp_path) as store_:
            scribes = [
                JournalWriter(store_.metadata, store_.view, store_.nodes, segment=20_000, spare=300, period=0)
                for _ in range(2)
            ]
            numbers = iter(range(1, STEPS))
            hands = asyncio.gather(*(store_.hand(numbers) for _ in range(12)))
            while not hands.done():
                await store_.metadata.write(due)
                for journal_writer in scribes:
                    await asyncio.gather(*(journal_writer.work(item) for item in await journal_writer.take(10)))
                await asyncio.sleep(0.01)
            await hands
            await store_.write_names(*scribes)
            live = await store_.live()
            assert len(live["file"]) > 300
            assert await asyncio.to_thread(drill, json=True, database=Database(url=lost)) == Exit.OK
            highest = await store_.metadata.read(uploads.highest_fid)
            assert await store_.metadata.read(journals.unknown, [live["file"][0][0], highest + 1]) == {highest + 1}
            host = store_.view.current.hosts[1]
            first = f"http://{host.ip}:{host.http_port}/dev1"
            dry = await call(capsys, new, first, dry_run=True)
            report = await call(capsys, new, first)
        wrong = ("lost", "rivals", "damaged", "incomplete", "silent", "other_size", "nameless", "made_up")
        for each in (dry, report):
            assert {name: each[name] for name in wrong if each[name]} == {}
            assert each["files"] == len(live["file"])
        fresh = await open_metadata(new)
        try:
            found = await fresh.read(all_rows)
            for table, rows_ in live.items():
                assert found[table] == rows_, table
            fid = await fresh.write(files.open_upload, dmid=1, key=b"next", classid=0, devids=(1,), now=1)
            assert fid > highest
        finally:
            await fresh.close()
        with pytest.raises(InUse):
            await asyncio.to_thread(rebuild, new, first)


async def test_unresolved_conflicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data without a journal record, damage, absent devices and missing data are reported; nothing is guessed."""
    url = f"sqlite://{tmp_path}/lost.db"
    async with store(url, tmp_path) as store_:
        journal_writer = JournalWriter(store_.metadata, store_.view, store_.nodes)
        await store_.hand(iter(range(1, 200)))
        await store_.write_names(journal_writer)
        live = await store_.live()
        victim, cut = (row for row in live["file"][:2])
        for devid in DEVICES:
            store_.place(devid, victim[0]).unlink(missing_ok=True)
        places = [devid for fid, devid in live["file_on"] if fid == cut[0]]
        for devid in places:
            store_.place(devid, cut[0]).write_bytes(b"")
        late = await store_.metadata.write(
            files.open_upload, dmid=store_.dmid, key=b"late", classid=0, devids=(1,), now=1
        )
        store_.put(1, late, 5)
        await store_.metadata.write(
            files.close_upload,
            NewFile(fid=late, dmid=store_.dmid, key=b"late", classid=0, length=5, devids=(1,)),
            now=1,
        )
        directories = [str(tmp_path / "ours"), str(tmp_path / "theirs")]
        new = f"sqlite://{tmp_path}/new.db"
        report = await call(capsys, new, *directories)
        assert {each["fid"] for each in report["lost"]} == {victim[0], cut[0]}
        assert {(each["fid"], each["found"]) for each in report["other_size"]} == {(cut[0], 0)}
        assert report["nameless"] == {str(late): [1]}
        assert report["files"] == len(live["file"]) - 2
        assert report["next_fid"] == late + 1
        first = f"{store_.view.current.origin(1)}/dev1"
        over_http = await call(capsys, f"sqlite://{tmp_path}/http.db", first)
        assert over_http["not_listed"] == ["dev3", "dev4"]
        assert over_http.pop("next_fid") > report.pop("next_fid")
        assert over_http | {"not_listed": []} == report
        (store_.directories[2] / "names" / "b" / "000001").write_bytes(b"rubbish")
        report = await call(capsys, f"sqlite://{tmp_path}/other.db", *directories)
        assert list(report["damaged"]) == ["dev2"]


async def test_a_dead_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The journal of a dead device is outdated and is not read."""
    async with store(f"sqlite://{tmp_path}/lost.db", tmp_path) as store_:
        journal_writer = JournalWriter(store_.metadata, store_.view, store_.nodes)
        fid = await store_.metadata.write(
            files.open_upload, dmid=store_.dmid, key=b"k", classid=0, devids=(1, 4), now=1
        )
        for devid in (1, 4):
            store_.put(devid, fid, 3)
        await store_.metadata.write(
            files.close_upload, NewFile(fid=fid, dmid=store_.dmid, key=b"k", classid=0, length=3, devids=(1, 4)), now=1
        )
        await store_.write_names(journal_writer)
        await store_.metadata.write(rows.set_device_state, "h2", 4, DeviceState.DEAD)
        await store_.metadata.write(replicas.empty_dead_device, 4, limit=9, now=1)
        await store_.metadata.write(files.delete, store_.dmid, b"k", now=1)
        await store_.view.refresh()
        await store_.write_names(journal_writer)
        report = await call(
            capsys, f"sqlite://{tmp_path}/new.db", str(tmp_path / "ours"), str(tmp_path / "theirs"), dry_run=True
        )
        assert report["files"] == 0
        assert not report["rivals"]


async def test_a_drill_finds_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that the journals have differently, one that they lack, and an extra one are each reported."""
    monkeypatch.setattr("tawara.recovery.drill.PAUSE", 0.0)
    url = f"sqlite://{tmp_path}/lost.db"
    async with store(url, tmp_path) as store_:
        await store_.hand(iter(range(1, 120)))
        await store_.write_names(JournalWriter(store_.metadata, store_.view, store_.nodes))
        live = await store_.live()
        assert await drilled(capsys, url, sample=2) == (Exit.OK, set(), set(), set(), 0)
        renamed, deleted, unknown, waiting = (row[0] for row in live["file"][:4])
        await store_.metadata.write(run, f"UPDATE file SET dkey = 'secretly' WHERE fid = {renamed}")
        await store_.metadata.write(run, f"DELETE FROM file WHERE fid = {deleted}")
        await store_.metadata.write(run, f"UPDATE file SET fid = {unknown + 5000} WHERE fid = {unknown}")
        await store_.metadata.write(run, f"UPDATE file_on SET fid = {unknown + 5000} WHERE fid = {unknown}")
        await store_.metadata.write(files.rename, store_.dmid, live["file"][3][2], b"in a moment")
        assert waiting
        assert await drilled(capsys, url) == (Exit.CORRUPT, {unknown + 5000}, {deleted, unknown}, {renamed}, 1)


async def test_a_drill_finds_data_without_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data without a row is reported, except that of an upload or of a change that is not journaled yet."""
    monkeypatch.setattr("tawara.recovery.drill.PAUSE", 0.0)
    url = f"sqlite://{tmp_path}/lost.db"
    async with store(url, tmp_path) as store_:
        await store_.hand(iter(range(1, 60)))
        await store_.write_names(JournalWriter(store_.metadata, store_.view, store_.nodes))
        write, dmid = store_.metadata.write, store_.dmid
        open_, late = [
            await write(files.open_upload, dmid=dmid, key=b"late", classid=0, devids=(1, 3), now=1) for _ in range(2)
        ]
        await write(
            files.close_upload, NewFile(fid=late, dmid=dmid, key=b"late", classid=0, length=5, devids=(1, 3)), now=1
        )
        for fid in (open_, late, 777_777):
            store_.put(1, fid, 5)
            store_.put(3, fid, 5)
        capsys.readouterr()
        assert await asyncio.to_thread(drill, look=True, json=True, database=Database(url=url)) == Exit.OK
        report = json.loads(capsys.readouterr().out)
        assert report["nameless"] == {"777777": [1]}
        assert report["not_listed"] == ["dev3", "dev4"]
        assert await asyncio.to_thread(drill, look=True, database=Database(url=url)) == Exit.OK
        assert "777777 on dev1\n" in capsys.readouterr().out


async def drilled(
    capsys: pytest.CaptureFixture[str], url: str, **options: Any
) -> tuple[int, set[int], set[int], set[int], int]:
    """The exit code; the fids that are missing, extra and different; the number not written yet."""
    capsys.readouterr()
    code = await asyncio.to_thread(drill, json=True, database=Database(url=url), **options)
    report = json.loads(capsys.readouterr().out)
    fids = [{each["fid"] for each in report[name]} for name in ("missing", "surplus")]
    return code, *fids, {each["is"]["fid"] for each in report["other"]}, report["not_yet_written"]


async def run(tx: Transaction, sql: str) -> None:
    await tx.run(sql)
