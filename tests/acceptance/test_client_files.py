"""The client library against a real store: storing and reading files, also while parts of the store fail."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tawara.client import AsyncClient, OutcomeUnknown
from tawara.client.upload_source import Data
from tawara.model import errors
from tawara.model.cluster import Checksum, HashType
from tawara.nodes.parallel import WORTHWHILE
from tests.acceptance.cluster import DOMAIN, Cluster, cluster
from tests.acceptance.cut import cut

BIG = os.urandom(3_000_000)


async def _everywhere(store: Cluster, fid: int) -> None:
    await store.until(lambda: len(store.replicas(fid)) == 2)

    async def rows() -> int:
        async with store.client() as client:
            return len((await client.info(DOMAIN, "k", devices=True)).devids)

    for _ in range(200):
        if await rows() == 2:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the second replica is not recorded")


async def test_every_kind_of_data_round_trips(tmp_path: Path) -> None:
    """Bytes, paths, open files, iterables and asynchronous iterables are stored unchanged, also the empty file."""

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(BIG), 100_001):
            yield BIG[start : start + 100_001]

    async def later() -> AsyncIterator[bytes]:
        for piece in pieces():
            await asyncio.sleep(0)
            yield piece

    path = tmp_path / "file"
    path.write_bytes(BIG)
    opened = io.BytesIO(b"skipped" + BIG)
    opened.seek(7)
    async with cluster(tmp_path, hosts=1) as store, store.client() as client:
        kinds: dict[str, Data] = {
            "bytes": BIG,
            "view": memoryview(BIG),
            "path": path,
            "file": opened,
            "iterable": pieces(),
            "async": later(),
        }
        for key, data in kinds.items():
            stored = await client.put(DOMAIN, key, data, storage_class="one")
            assert stored.length == len(BIG)
            assert await client.get(DOMAIN, key) == BIG
        await client.put(DOMAIN, "empty", b"")
        assert await client.get(DOMAIN, "empty") == b""
        assert await client.get(DOMAIN, "bytes", start=10, end=20) == BIG[10:20]
        assert await client.get(DOMAIN, "bytes", start=len(BIG) - 5) == BIG[-5:]
        assert await client.get(DOMAIN, "bytes", start=len(BIG) + 5) == b""


async def test_keys_of_any_bytes(tmp_path: Path) -> None:
    """Keys of any bytes are stored, listed and found; lists are read page by page, in byte order."""
    keys = [
        "a b+c%2F&=",
        "俵",
        "\udcff\udcfe",
        "../x",
        "new\nline",
        "k" * 1024,
        *(f"n/{each:03}" for each in range(25)),
    ]
    async with cluster(tmp_path, hosts=1) as store, store.client() as client:
        for key in keys:
            await client.put(DOMAIN, key, key.encode("utf-8", "surrogateescape"))
        listed = [key async for key in client.list_keys(DOMAIN, page=7)]
        assert listed == sorted(keys, key=lambda key: key.encode("utf-8", "surrogateescape"))
        assert [key async for key in client.list_keys(DOMAIN, "n/", after="n/022")] == ["n/023", "n/024"]
        assert [key async for key in client.list_keys(DOMAIN, "nothing")] == []
        for key in keys:
            assert await client.get(DOMAIN, key) == key.encode("utf-8", "surrogateescape")


async def test_files_are_described_renamed_and_deleted(tmp_path: Path) -> None:
    """The verbs for one file do what they say, and raise an error for a missing file."""
    async with cluster(tmp_path, hosts=1) as store, store.client() as client:
        await client.put(DOMAIN, "k", b"hello", storage_class="md5", checksum=HashType.MD5)
        info = await client.info(DOMAIN, "k", devices=True)
        assert (info.key, info.length, info.storage_class, len(info.devids)) == ("k", 5, "md5", 1)
        assert info.checksum == Checksum(HashType.MD5, hashlib.md5(b"hello").digest())
        await client.put(DOMAIN, "taken", b"")
        with pytest.raises(errors.KeyExists):
            await client.rename(DOMAIN, "k", "taken")
        await client.rename(DOMAIN, "k", "new")
        assert not await client.exists(DOMAIN, "k")
        assert await client.exists(DOMAIN, "new")
        await client.set_class(DOMAIN, "new", "one")
        assert (await client.info(DOMAIN, "new")).storage_class == "one"
        await client.delete(DOMAIN, "new")
        for verb in (client.get, client.info, client.delete, client.paths):
            with pytest.raises(errors.UnknownKey):
                await verb(DOMAIN, "new")
        with pytest.raises(errors.UnregDomain):
            await client.put("nowhere", "k", b"")
        with pytest.raises(errors.UnregClass):
            await client.put(DOMAIN, "k", b"", storage_class="nothing")


async def test_wrong_data_is_not_stored(tmp_path: Path) -> None:
    """A wrong size, a wrong checksum, or a failing source leaves the key unchanged, and no upload."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        raise RuntimeError("the source failed")

    wrong = Checksum(HashType.SHA1, hashlib.sha1(b"other").digest())
    async with cluster(tmp_path, hosts=1) as store, store.client() as client:
        await client.put(DOMAIN, "k", b"first")
        with pytest.raises(errors.SizeMismatch):
            await client.put(DOMAIN, "k", iter([b"second"]), size=3)
        with pytest.raises(errors.ChecksumMismatch):
            await client.put(DOMAIN, "k", b"second", checksum=wrong)
        with pytest.raises(RuntimeError, match="the source failed"):
            await client.put(DOMAIN, "k", broken())
        assert await client.get(DOMAIN, "k") == b"first"

        async def uploads(tx: object) -> int:
            return int((await tx.row("SELECT COUNT(*) FROM tempfile"))[0])  # type: ignore[attr-defined]  # any engine's

        assert await store.metadata.read(uploads) == 0


async def test_a_download_is_complete_or_absent(tmp_path: Path) -> None:
    """A download replaces its target at its end; a failed one leaves the target and no other file."""
    target = tmp_path / "out" / "file"
    target.parent.mkdir()
    target.write_bytes(b"old")
    async with cluster(tmp_path, hosts=1) as store, store.client() as client:
        stored = await client.put(DOMAIN, "k", BIG, storage_class="md5", checksum=HashType.MD5)
        (replica,) = store.replicas(stored.fid)
        os.chmod(replica, 0o644)
        replica.write_bytes(BIG[:-1] + bytes([BIG[-1] ^ 1]))
        with pytest.raises(errors.ChecksumMismatch):
            await client.download(DOMAIN, "k", target, verify=True)
        assert target.read_bytes() == b"old"
        replica.write_bytes(BIG)
        await client.download(DOMAIN, "k", target, verify=True)
        assert target.read_bytes() == BIG
    assert os.listdir(target.parent) == ["file"]


async def test_a_replica_fails_during_a_get(tmp_path: Path) -> None:
    """A GET that breaks off continues at the next replica, and the content is right."""
    async with cluster(tmp_path, hosts=2, devices=1, workers=True) as store, store.client() as client:
        stored = await client.put(DOMAIN, "k", BIG)
        await _everywhere(store, stored.fid)
        async with cut(store.nodes[0].http_address) as proxy:
            proxy.before_answering = lambda sent, answered: b".fid" in sent and len(answered) > len(BIG) // 3
            await client.update_host("h1", get_port=proxy.port)
            while proxy.cuts < 3:  # the broken replica is not always the first to be asked
                assert await client.get(DOMAIN, "k") == BIG
                assert await client.get(DOMAIN, "k", start=7, end=2_900_000) == BIG[7:2_900_000]


@pytest.mark.slow
async def test_a_large_file_is_read_from_all_its_hosts(tmp_path: Path) -> None:
    """A large file is read in ranges from both hosts, and is right though the connections of one break."""
    large = os.urandom(WORTHWHILE + 1_000_000)
    async with cluster(tmp_path, hosts=2, devices=1, workers=True) as store, store.client() as client:
        stored = await client.put(DOMAIN, "k", large)
        await _everywhere(store, stored.fid)
        async with cut(store.nodes[0].http_address) as proxy:
            proxy.before_answering = lambda sent, answered: b".fid" in sent and len(answered) > 1_000_000
            await client.update_host("h1", get_port=proxy.port)
            assert await client.get(DOMAIN, "k") == large
            assert proxy.cuts


@pytest.mark.slow
async def test_a_hanging_node(tmp_path: Path) -> None:
    """A storage node that accepts a GET and sends nothing does not delay a reader while another replica exists."""
    met = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += b".fid " in await reader.readuntil(b"\r\n")
        await reader.read()
        writer.close()

    async with (
        cluster(tmp_path, hosts=2, devices=1, workers=True) as store,
        AsyncClient(store.trackers, stall_timeout=3600) as client,
        await asyncio.start_server(say_nothing, "127.0.0.1", 0) as hung,
    ):
        stored = await client.put(DOMAIN, "k", BIG)
        await _everywhere(store, stored.fid)
        assert store.monitor is not None
        await store.monitor.stop()  # it would soon tell the trackers
        await client.update_host("h1", get_port=hung.sockets[0].getsockname()[1])
        while met < 2:  # it is not always the first to be asked
            assert await client.get(DOMAIN, "k") == BIG


async def test_a_file_without_any_good_replica(tmp_path: Path) -> None:
    """A file whose replicas are missing or have another length is an error, never wrong bytes."""
    async with cluster(tmp_path, hosts=1, devices=1) as store, store.client() as client:
        stored = await client.put(DOMAIN, "k", BIG)
        (replica,) = store.replicas(stored.fid)
        os.truncate(replica, 1000)
        with pytest.raises(errors.NoSource):
            await client.get(DOMAIN, "k")
        replica.unlink()
        with pytest.raises(errors.NoSource):
            await client.get(DOMAIN, "k")


async def test_an_offered_device_that_is_down_is_skipped(tmp_path: Path) -> None:
    """A storage node that has just stopped does not fail an upload while another one is available."""
    async with cluster(tmp_path, hosts=2, devices=1) as store, store.client() as client:
        await store.nodes[1].stop()
        for number in range(8):
            await client.put(DOMAIN, f"k{number}", BIG)
            assert await client.get(DOMAIN, f"k{number}") == BIG


async def test_a_fid_in_use_on_a_device(tmp_path: Path) -> None:
    """A client whose fid has other content on a device stores under another fid, and that content is unchanged."""
    async with cluster(tmp_path, hosts=1, devices=1, workers=True) as store, store.client() as client:
        taken = (await client.put(DOMAIN, "first", BIG)).fid + 1
        path = store.path(1, taken)
        path.write_bytes(b"lost and found")
        stored = await client.put(DOMAIN, "k", BIG)
        assert stored.fid > taken + 1000
        assert await client.get(DOMAIN, "k") == BIG
        await client.delete(DOMAIN, "k")
        await store.until(lambda: not store.replicas(stored.fid))  # deletions have been done meanwhile
        assert path.read_bytes() == b"lost and found"


async def test_a_tracker_dies_between_open_and_close(tmp_path: Path) -> None:
    """The next tracker closes an upload that a killed one opened."""
    async with cluster(tmp_path, hosts=1, trackers=2) as store, store.client() as client:
        first = client.trackers

        async def source() -> AsyncIterator[bytes]:
            yield BIG[:1000]
            preferred = client._trackers.addresses[0]
            await next(server for server in store.servers if server.address == preferred).stop()
            yield BIG[1000:]

        await client.put(DOMAIN, "k", source())
        assert await client.get(DOMAIN, "k") == BIG
        assert len(first()) == 2


async def test_a_tracker_is_restarted_between_open_and_close(tmp_path: Path) -> None:
    """The only tracker may be unavailable for a moment: the close waits for it."""
    async with cluster(tmp_path, hosts=1) as store, store.client() as client:
        port = store.servers[0].address[1]
        returning: list[asyncio.Task[object]] = []

        async def come_back() -> None:
            await asyncio.sleep(0.3)
            await store.add_tracker(port)

        async def source() -> AsyncIterator[bytes]:
            yield BIG[:1000]
            await store.servers.pop().stop()
            returning.append(asyncio.create_task(come_back()))
            yield BIG[1000:]

        await client.put(DOMAIN, "k", source())
        assert await client.get(DOMAIN, "k") == BIG


@pytest.mark.parametrize("arrived", [True, False], ids=["the request arrived", "the request did not arrive"])
async def test_the_outcome_of_a_close_is_unknown(tmp_path: Path, arrived: bool) -> None:
    """When the reply to create_close is lost, the client determines the result, and the file is stored once."""
    async with cluster(tmp_path, hosts=1) as store, cut(store.servers[0].address) as proxy:
        if arrived:
            proxy.before_answering = lambda sent, answered: proxy.cuts == 0 and b"create_close" in sent
        else:
            proxy.before_forwarding = lambda sent: proxy.cuts == 0 and b"create_close" in sent
        async with store.client(f"127.0.0.1:{proxy.port}") as client:
            stored = await client.put(DOMAIN, "k", BIG)
            assert proxy.cuts == 1
            assert (await client.info(DOMAIN, "k")).fid == stored.fid
            assert await client.get(DOMAIN, "k") == BIG


async def test_a_close_whose_file_was_replaced_at_once_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the outcome of an upload is unknown, OutcomeUnknown is raised, and the newer file stays."""
    monkeypatch.setattr("tawara.client.upload.PAUSES", (0.05, 0.05))
    async with cluster(tmp_path, hosts=1) as store, cut(store.servers[0].address) as proxy, store.client() as other:
        proxy.before_answering = lambda sent, answered: proxy.cuts == 0 and b"create_close" in sent
        proxy.meanwhile = lambda: other.put(DOMAIN, "k", b"newer")
        async with store.client(f"127.0.0.1:{proxy.port}") as client:
            with pytest.raises(OutcomeUnknown):
                await client.put(DOMAIN, "k", BIG)
        assert proxy.cuts == 1
        assert await other.get(DOMAIN, "k") == b"newer"


@pytest.mark.parametrize("verb", ["delete", "rename"])
async def test_the_outcome_of_a_change_is_unknown(tmp_path: Path, verb: str) -> None:
    """A deletion or renaming whose reply was lost is neither repeated nor reported as failed."""
    async with cluster(tmp_path, hosts=1) as store, cut(store.servers[0].address) as proxy:
        proxy.before_answering = lambda sent, answered: proxy.cuts == 0 and verb.encode() + b" " in sent
        async with store.client(f"127.0.0.1:{proxy.port}") as client:
            await client.put(DOMAIN, "k", b"hello")
            await (client.delete(DOMAIN, "k") if verb == "delete" else client.rename(DOMAIN, "k", "new"))
            assert proxy.cuts == 1
            assert not await client.exists(DOMAIN, "k")
            assert await client.exists(DOMAIN, "new") == (verb == "rename")


async def test_no_tracker_responds(tmp_path: Path) -> None:
    """Without a tracker the error says so, at once."""
    async with cluster(tmp_path, hosts=1) as store, store.client() as client:
        await store.servers.pop().stop()
        with pytest.raises(errors.TrackerUnreachable):
            await client.info(DOMAIN, "k")
