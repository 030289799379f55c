"""Each command of the line protocol with each of its outcomes, over the wire, with a real database and storage node.
The tables are transcripts: `>` precedes a request, `<` the whole reply, in which `*` stands for anything and `NODE` for
the storage node's HOST:PORT. `$` does something to the storage node, `!` to the store. Every store is new: domain `d`
with the classes `default` and `md5`, host `one` with dev1 (alive) and dev2 (readonly)."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tawara.metadata import fsck, rebalance
from tawara.metadata.cluster import set_setting
from tawara.metadata.contract import Transaction
from tawara.model.cluster import Cluster, Observation, Observed
from tawara.tracker.verbs import QUICK, THOROUGH
from tests.acceptance import (
    tracker_admin_commands,
    tracker_file_commands,
    tracker_liveness_commands,
    tracker_maintenance_commands,
    tracker_status_commands,
    tracker_upload_commands,
)
from tests.acceptance.tracker_fixture import StoreFixture, store_fixture
from tests.contract.servers import Server

TRANSCRIPTS = (
    tracker_upload_commands.TRANSCRIPTS
    | tracker_file_commands.TRANSCRIPTS
    | tracker_admin_commands.TRANSCRIPTS
    | tracker_maintenance_commands.TRANSCRIPTS
    | tracker_status_commands.TRANSCRIPTS
    | tracker_liveness_commands.TRANSCRIPTS
)

OUTCOMES = {
    "create_open": "OK no_domain unreg_domain unreg_class fid_in_use no_devices invalid_key bad_params",
    "create_close": "OK no_domain unreg_domain no_fid no_devid no_path invalid_checksum_format bogus_args no_temp_file"
    " invalid_destdev size_verify_error size_mismatch checksum_mismatch fid_exists invalid_key bad_params",
    "get_paths": "OK no_domain unreg_domain no_key unknown_key",
    "file_info": "OK no_domain unreg_domain no_key unknown_key",
    "file_debug": "OK no_domain unreg_domain no_key unknown_key",
    "delete": "OK no_domain unreg_domain no_key unknown_key",
    "rename": "OK no_domain unreg_domain no_key unknown_key key_exists invalid_key",
    "updateclass": "OK no_domain unreg_domain no_key no_class class_not_found invalid_key no_devices",
    "list_keys": "OK no_domain unreg_domain after_mismatch none_match",
    "list_fids": "OK",
    "noop": "OK",
    "sleep": "OK",
    "test": "OK failure",
    "clear_cache": "OK",
    "do_monitor_round": "OK",
    "replicate_now": "OK",
    "create_domain": "OK no_domain domain_exists invalid_name",
    "delete_domain": "OK no_domain domain_not_found domain_has_files domain_has_classes",
    "get_domains": "OK",
    "create_class": "OK no_domain no_class invalid_mindevcount invalid_replpolicy invalid_hashtype domain_not_found"
    " class_exists",
    "update_class": "OK no_domain no_class invalid_mindevcount invalid_replpolicy invalid_hashtype domain_not_found"
    " class_not_found",
    "delete_class": "OK no_domain no_class nodel_default_class domain_not_found class_not_found class_has_files",
    "create_host": "OK no_host host_exists no_ip no_port unknown_state dup bad_params",
    "update_host": "OK no_host host_not_found unknown_state dup",
    "delete_host": "OK unknown_host host_not_empty",
    "get_hosts": "OK",
    "create_device": "OK invalid_state invalid_devid unknown_hostid unknown_host bad_args existing_devid",
    "get_devices": "OK",
    "set_state": "OK bad_params no_device host_mismatch state_too_high",
    "set_weight": "OK bad_params no_device host_mismatch",
    "server_settings": "OK",
    "server_setting": "OK bad_params",
    "set_server_setting": "OK bad_params not_writable invalid_format",
    "fsck_start": "OK fsck_running rebal_running",
    "fsck_stop": "OK",
    "fsck_reset": "OK",
    "fsck_status": "OK",
    "fsck_getlog": "OK",
    "fsck_clearlog": "OK",
    "rebalance_set_policy": "OK no_set_rebal bad_rebal_pol",
    "rebalance_test": "OK no_rebal_policy",
    "rebalance_start": "OK rebal_running fsck_running no_rebal_policy",
    "rebalance_status": "OK no_rebal_state",
    "rebalance_stop": "OK rebal_not_started",
    "rebalance_reset": "OK rebal_running",
    "drain_device": "OK bad_params no_device state_too_high",
    "drain_status": "OK",
    "scrub_status": "OK",
    "scrub_getlog": "OK",
    "tawara_placement": "OK",
    "tawara_status": "OK",
    "tawara_absences": "OK",
    "tawara_accept": "OK bad_params no_device",
    "tawara_trust": "OK bad_params no_device unknown_host device_not_absent",
    "tawara_delete_device": "OK no_device device_in_use",
    "tawara_removal": "OK bad_params no_domain domain_not_found no_class class_not_found no_host unknown_host no_device"
    " not_writable",
    "tawara_remove_setting": "OK bad_params not_writable",
    "tawara_explain": "OK no_domain unreg_domain no_key",
}
"""Command -> the outcomes that it can have (docs/mogilefs.md 3 to 5, and what we add)."""


async def _statement(tx: Transaction, sql: str, *values: object) -> None:
    await tx.run(sql, *values)


async def _rebalance(cluster: Cluster, tx: Transaction) -> bool:
    return await rebalance.inject(tx, cluster, Random(1), now=10**9)


async def _do_to_store(here: StoreFixture, words: list[str]) -> None:
    """Execute one of the `!` lines of a transcript."""
    match words:
        case ["OBSERVE", devid]:
            here.view.observe({**here.view.current.observed, int(devid): Observation(Observed.WRITEABLE)})
        case ["STORE", *keys]:
            for fid, key in enumerate(keys, 1):
                await here.store(key.encode(), fid=fid)
        case ["ABSENT", devid]:
            sql = "INSERT INTO tawara_absent VALUES (?, 'presumed dead', 77, 901, 978, 0, 0)"
            await here.metadata.write(_statement, sql, int(devid))
            await here.view.refresh()
        case ["FILE_ON", fid, devid]:
            await here.metadata.write(_statement, "INSERT INTO file_on VALUES (?, ?)", int(fid), int(devid))
        case ["NOT_ON", fid, devid]:
            sql = "DELETE FROM file_on WHERE fid = ? AND devid = ?"
            await here.metadata.write(_statement, sql, int(fid), int(devid))
        case ["TEMPFILE", fid]:
            sql = "INSERT INTO tempfile (fid, createtime, classid, dmid, dkey, devids) VALUES (?, 1, 0, 1, 'k', '1')"
            await here.metadata.write(_statement, sql, int(fid))
        case ["POSTPONE", fid]:
            sql = "UPDATE file_to_replicate SET nexttry = 2000000000 WHERE fid = ?"
            await here.metadata.write(_statement, sql, int(fid))
        case ["FSCK_LOG", fid, code, devid]:
            sql = "INSERT INTO fsck_log (utime, fid, evcode, devid) VALUES (77, ?, ?, ?)"
            await here.metadata.write(_statement, sql, int(fid), code, None if devid == "-" else int(devid))
        case ["TASK", fid, kind, devid, arg]:
            sql = "INSERT INTO file_to_queue (fid, type, devid, nexttry, arg) VALUES (?, ?, ?, 5, ?)"
            from_devid, argument = None if devid == "-" else int(devid), None if arg == "-" else arg
            await here.metadata.write(_statement, sql, int(fid), int(kind), from_devid, argument)
        case ["TURN", kind]:
            turn = partial(fsck.inject, now=10**9) if kind == "fsck" else partial(_rebalance, here.view.current)
            await here.metadata.write(turn)
            await here.view.refresh()
        case ["SETTING", field, value]:
            await here.metadata.write(set_setting, field, value)
        case _:
            raise AssertionError(f"no such thing to do: {words}")


async def _do_to_node(here: StoreFixture, words: list[str]) -> None:
    """Execute one of the `$` lines of a transcript."""
    match words:
        case ["STOP"]:
            await here.node.stop()
        case [method, path, *body]:
            status = await here.on_node(method, path, " ".join(body).encode())
            assert status in (200, 201, 204), f"{words}: {status}"
        case _:
            raise AssertionError(f"no such thing to do: {words}")


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
async def database(
    request: pytest.FixtureRequest, database_servers: Callable[[str], Server]
) -> AsyncIterator[str | None]:
    """The URL of an empty database; None stands for SQLite."""
    if request.param == "sqlite":
        yield None
        return
    server = await asyncio.to_thread(database_servers, request.param)
    name = f"commands_{uuid.uuid4().hex[:8]}"
    yield await asyncio.to_thread(server.create, name)
    await asyncio.to_thread(server.drop, name)


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_transcript(name: str, database: str | None, tmp_path: Path) -> None:
    """Every command replies as documented, in each of its outcomes, on each database."""
    async with store_fixture(tmp_path, url=database) as here:
        reader, writer = await here.connect()
        try:
            await _play(
                here,
                TRANSCRIPTS[name].replace("NODE", here.node_name).replace("PORT", str(here.node.http_address[1])),
                reader,
                writer,
            )
        finally:
            writer.close()


async def _play(
    here: StoreFixture, transcript: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    asked = answer = ""
    for line in transcript.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == ">":
            writer.write(rest.encode() + b"\r\n")
            asked, answer = rest, (await reader.readline()).decode()
        elif kind == "<":
            expected = (rest + " " if rest == "OK" else rest) + "\r\n"
            pattern = ".*".join(re.escape(piece) for piece in expected.split("*"))
            assert re.fullmatch(pattern, answer), f"> {asked}\n< {answer}\nnot: {expected}"
        elif kind == "$":
            await _do_to_node(here, rest.split())
        elif kind == "!":
            await _do_to_store(here, rest.split())


def test_the_tables_have_every_outcome_of_every_command() -> None:
    """Every command, and every outcome of one, has a transcript."""
    assert OUTCOMES.keys() == QUICK.keys() | THOROUGH.keys()
    seen: dict[str, set[str]] = {command: set() for command in OUTCOMES}
    for transcript in TRANSCRIPTS.values():
        for asked, answer in re.findall(r"^> (\w+).*\n< (?:ERR )?(\w+)", transcript, re.MULTILINE):
            if asked.lower() in seen:
                seen[asked.lower()].add(answer)
    assert seen == {command: set(outcomes.split()) for command, outcomes in OUTCOMES.items()}
