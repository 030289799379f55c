"""Measuring replicas on real storage nodes, with and without a side channel."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tawara.metadata import files
from tawara.model.cluster import Checksum, DeviceState, HashType
from tawara.model.files import StoredFile
from tawara.model.fsck import CheckedReplica, ReplicaFinding
from tawara.nodes.client import NodeClient
from tawara.workers.survey import Survey, is_right
from tests.unit.workers.workers_fixture import WorkersFixture, set_state, workers_fixture

BODY = b"a bale of rice"
MD5 = Checksum(HashType.MD5, hashlib.md5(BODY).digest())
CLOSED_PORT = 1


async def stored(fixture: WorkersFixture, *devids: int) -> StoredFile:
    """A file on these devices."""
    found = await fixture.metadata.read(files.find_fid, await fixture.store(b"k%d" % len(devids), BODY, *devids))
    assert found
    return found


@pytest.mark.parametrize("port", [None, CLOSED_PORT])
async def test_many_files_are_measured_without_a_side_channel(tmp_path: Path, port: int | None) -> None:
    """Nodes without a side channel are queried over HTTP; a file is right only if all its replicas are."""
    async with workers_fixture(tmp_path, {"h1": [1, 3], "h2": [2]}) as fixture:
        both, three = await stored(fixture, 1, 2), await stored(fixture, 1, 2, 3)
        survey = Survey(fixture.view, fixture.nodes, side_channel_port=port)
        files = [both, three]

        async def right() -> list[bool]:
            return [is_right(*each) for each in zip(files, await survey.measure(files), strict=True)]

        assert await right() == [True, True]
        fixture.place(3, three.fid).write_bytes(b"short")
        assert await right() == [True, False]
        fixture.place(2, both.fid).unlink()
        assert await right() == [False, False]
        assert await survey.measure([both]) == [{1: len(BODY), 2: None}]


async def test_a_measured_replica_is_not_queried_again(tmp_path: Path) -> None:
    """A file that turns out to be broken costs one HEAD for each replica, including its thorough examination."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        file = await stored(fixture, 1, 2, 3)
        fixture.place(2, file.fid).unlink()
        fixture.place(3, file.fid).write_bytes(b"short")
        asked: list[str] = []

        class Counting(NodeClient):
            async def size(self, url: str) -> int | None:
                asked.append(url)
                return await super().size(url)

        async with Counting() as nodes:
            survey = Survey(fixture.view, nodes, side_channel_port=None)
            (measured,) = await survey.measure([file])
            seen = await survey.look(file, None, measured)
        assert seen == (
            CheckedReplica(1, ReplicaFinding.RIGHT),
            CheckedReplica(2, ReplicaFinding.MISSING),
            CheckedReplica(3, ReplicaFinding.WRONG_LENGTH),
        )
        assert sorted(asked) == sorted(fixture.url(devid, file.fid) for devid in (1, 2, 3))


async def test_a_silent_device_is_queried_again(tmp_path: Path) -> None:
    """The state of a replica is unknown if its node did not respond, so the thorough examination queries once more."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        file = await stored(fixture, 1, 2)
        await fixture.storage["h2"].stop()
        survey = Survey(fixture.view, fixture.nodes, side_channel_port=None)
        (measured,) = await survey.measure([file])
        assert measured == {1: len(BODY)}
        assert (await survey.look(file, None, measured))[1] == CheckedReplica(2, ReplicaFinding.SILENT)


async def test_each_state_of_a_replica_is_distinguished(tmp_path: Path) -> None:
    """Right, of a wrong length, missing, silent, down and lost are six different results."""
    async with workers_fixture(tmp_path, {"h1": [1, 2, 3], "h2": [4], "h3": [5, 6]}) as fixture:
        file = await stored(fixture, 1, 2, 3, 4, 5)
        file = replace(file, devids=(*file.devids, 77))
        survey = Survey(fixture.view, fixture.nodes, side_channel_port=None)
        fixture.place(2, file.fid).write_bytes(b"short")
        fixture.place(3, file.fid).unlink()
        await fixture.storage["h2"].stop()
        await set_state(fixture, 5, DeviceState.DOWN)
        assert await survey.look(file, HashType.MD5) == (
            CheckedReplica(1, ReplicaFinding.RIGHT, MD5),
            CheckedReplica(2, ReplicaFinding.WRONG_LENGTH),
            CheckedReplica(3, ReplicaFinding.MISSING),
            CheckedReplica(4, ReplicaFinding.SILENT),
            CheckedReplica(5, ReplicaFinding.DOWN),
            CheckedReplica(77, ReplicaFinding.LOST),
        )


async def test_a_device_without_a_mount_is_silent(tmp_path: Path) -> None:
    """A replica is not missing if its device's directory is not mounted."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        file = await stored(fixture, 1, 2)
        (tmp_path / "h1" / "dev1").rename(tmp_path / "h1" / "elsewhere")
        seen = await Survey(fixture.view, fixture.nodes, side_channel_port=None).look(file, None)
        assert [replica.seen for replica in seen] == [ReplicaFinding.SILENT, ReplicaFinding.RIGHT]


async def test_a_search_finds_only_good_copies(tmp_path: Path) -> None:
    """A copy without a row is found if it has the length, and the checksum if there is one."""
    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2], "h3": [3]}) as fixture:
        file = replace(await stored(fixture, 1), checksum=MD5)
        survey = Survey(fixture.view, fixture.nodes, side_channel_port=None)
        assert await survey.search(file, None, random.Random(1)) is None
        for devid, body in ((2, BODY[::-1]), (3, BODY)):
            await fixture.nodes.put(fixture.url(devid, file.fid), body, length=len(body))
        assert await survey.search(file, None, random.Random(1)) == CheckedReplica(3, ReplicaFinding.RIGHT, MD5)


async def test_an_unreadable_file_is_not_good(tmp_path: Path) -> None:
    """A replica that the node reports as unreadable is bad even if its length is right."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1]
        writer.write(b"ERR read %s at 4096 failed\r\n" % path)
        writer.close()

    async with workers_fixture(tmp_path, {"h1": [1], "h2": [2]}) as fixture:
        file = await stored(fixture, 1, 2)
        async with await asyncio.start_server(converse, "127.0.0.2", 0) as server:
            port = server.sockets[0].getsockname()[1]
            survey = Survey(fixture.view, fixture.nodes, side_channel_port=port)
            seen = await survey.look(file, HashType.MD5)
        assert seen == (CheckedReplica(1, ReplicaFinding.RIGHT, MD5), CheckedReplica(2, ReplicaFinding.UNREADABLE))
