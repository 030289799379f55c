"""A small store with proxies on all connections, to kill a tracker or worker between any two pieces of its traffic.
Three storage nodes run in this process; the database is a server. The victim is a separate process that uses both
through a `Tripwire`, which cuts the traffic after 0, 1, 2… pieces: each is one crash window. The last window is after
the end of the work. Then other workers repair the store, and rows and disks are compared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tawara.metadata import cluster as rows
from tawara.metadata import files, rebalance, runs
from tawara.metadata.contract import Metadata, Row, Transaction
from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.model import fid as fids
from tawara.model.files import NewFile
from tawara.model.reserved_keys import is_reserved
from tawara.node.server import StorageNode
from tawara.nodes.client import NodeClient
from tawara.workers.monitor import Monitor
from tests.acceptance.store import TAWARA, free_ports
from tests.probe.tripwire import Tripwire
from tests.probe.worker_process import ONLY, UPLOAD_OPEN

DOMAIN = "d"
NODES = 3
"""Host hI has device I."""
TIMEOUT = 60.0
LEASES = 10
"""Seconds; more than the leases of the killed workers."""
CONTENT = b"a bale of rice"


@dataclass
class Windows:
    """The store, and its expected content."""

    directory: Path
    url: str
    """The URL of the database."""
    behind: str
    """The same through the proxy."""
    metadata: Metadata
    nodes: NodeClient
    wire: Tripwire
    doors: dict[int, int]
    """Devid -> port of its proxy."""
    dmid: int = 0
    known: dict[str, set[bytes | None]] = field(default_factory=dict)
    """Key -> the possible contents; None for no file."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Key -> the fid that a tracker reported."""

    # --- files --------------------------------------------------------------------------------------------------------

    def place(self, devid: int, fid: int) -> Path:
        """The path of a replica on its device."""
        return self.directory / f"h{devid}" / f"dev{devid}" / fids.relative_path(fid)

    def node_url(self, devid: int, fid: int) -> str:
        """The URL of a replica."""
        return f"http://127.0.0.{devid}:{self.doors[devid]}{fids.path(devid, fid)}"

    async def upload(self, key: str, *devids: int) -> int:
        """Open an upload and send the bytes. Returns its fid."""
        now = int(time.time())
        fid = await self.metadata.write(
            files.open_upload, dmid=self.dmid, key=key.encode(), classid=0, devids=devids, now=now
        )
        for devid in devids:
            await self.nodes.put(self.node_url(devid, fid), CONTENT, length=len(CONTENT))
        return fid

    async def store(self, key: str, *devids: int, replicate: bool) -> int:
        """Store a file on these devices, with `replicate` queued for its other copy. Returns its fid."""
        fid = await self.upload(key, *devids)
        await self.metadata.write(
            files.close_upload,
            NewFile(fid=fid, dmid=self.dmid, key=key.encode(), classid=0, length=len(CONTENT), devids=devids),
            now=int(time.time()),
            replicate=replicate,
        )
        self.known[key] = {CONTENT}
        return fid

    # --- processes ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def process(self, *command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that prints a line when it is ready; killed at the end if it still runs."""
        log = self.directory / "log"
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.PIPE, stderr=errors, cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(Path.cwd()), **environment},
            )  # fmt: skip
        try:
            assert process.stdout is not None
            async with asyncio.timeout(TIMEOUT):
                assert await process.stdout.readline(), log.read_text()[-3000:]
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def workers(
        self, database: str, *, only: str = ""
    ) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
        """Workers with short leases, or one of them."""
        environment = {UPLOAD_OPEN: "1", ONLY: only}
        return self.process(sys.executable, "-m", "tests.probe.worker_process", database, **environment)

    # --- judging ------------------------------------------------------------------------------------------------------

    async def settle(self) -> float:
        """Let other workers repair everything. Returns the seconds that it took."""
        await asyncio.sleep(1.1)  # what was opened is then older than `UPLOAD_OPEN`
        async with self.workers(self.url):
            began = time.monotonic()
            while await self.metadata.read(_unfinished) or await self.wrong():
                await self.metadata.write(_let_time_pass, now=int(time.time()))
                if time.monotonic() - began > TIMEOUT:
                    waiting = await self.metadata.read(_waiting)
                    raise AssertionError(f"{await self.wrong()}, left at {int(time.time())}: {waiting}")
                await asyncio.sleep(0.1)
            return time.monotonic() - began

    async def wrong(self) -> list[str]:
        """Find what is wrong: keys, copies, data, and data without rows."""
        stored, on, drained = await self.metadata.read(_stored)
        found = [f"{key} is lost" for key in self.known.keys() - stored.keys() if None not in self.known[key]]
        disk = {
            (int(path.stem), devid)
            for devid in range(1, NODES + 1)
            for path in (self.directory / f"h{devid}").glob("dev*/[0-9]/*/*/*.fid")
        }
        found += [f"{key} is not fid {fid}" for key, fid in self.acknowledged.items() if stored.get(key) != fid]
        found += [f"fid {fid} on dev{devid} has no row" for fid, devid in disk - on]
        found += [f"dev{devid} was left in state drain" for devid in drained]
        found += [f"fid {fid} is not on dev{devid}" for fid, devid in on - disk]
        for key, fid in stored.items():
            if is_reserved(key.encode()):
                found.append(f"{key!r} is a part that is left")
                continue
            devids = {devid for each, devid in on if each == fid}
            if self.known[key] == {None}:
                found.append(f"{key} was deleted, and is there")
            if len(devids) != 2:
                found.append(f"{key} has its copies on {sorted(devids)}")
            found += [
                f"{key} on dev{devid} has other bytes"
                for devid in devids & {devid for each, devid in disk if each == fid}
                if self.place(devid, fid).read_bytes() not in self.known[key]
            ]
        return found


async def _unfinished(tx: Transaction) -> bool:
    return await _rebalancing(tx) or any((await _waiting(tx)).values())


async def _rebalancing(tx: Transaction) -> bool:
    return bool((await runs.settings(tx, "rebal_")).get("rebal_host"))


async def _waiting(tx: Transaction) -> dict[str, list[Row]]:
    """Count the pending work, by table."""
    tables = ("file_to_replicate", "file_to_delete2", "file_to_queue", "tawara_copy", "tempfile")
    found = {table: await tx.rows(f"SELECT * FROM {table}") for table in tables}
    ended = "SELECT upload_id, state FROM tawara_multipart WHERE state IN ('done', 'aborted')"
    return found | {"tawara_multipart": await tx.rows(ended)}


async def _let_time_pass(tx: Transaction, *, now: int) -> None:
    """Make deferred work that is not leased due: late data (`replicas.LATE`) and failures."""
    await tx.run("UPDATE tawara_copy SET lease = ? WHERE lease > ?", now, now + LEASES)
    for table in ("file_to_replicate", "file_to_delete2", "file_to_queue"):
        await tx.run(f"UPDATE {table} SET nexttry = ? WHERE nexttry > ? AND failcount > 0", now, now + LEASES)


async def _stored(tx: Transaction) -> tuple[dict[str, int], set[tuple[int, int]], list[int]]:
    keys = await tx.rows(f"SELECT {tx.dialect.key_column('dkey')}, fid FROM file")
    on = await tx.rows("SELECT fid, devid FROM file_on")
    drained = await tx.rows("SELECT devid FROM device WHERE status = 'drain'")
    return (
        {key.decode(): fid for key, fid in keys},
        {(fid, devid) for fid, devid in on},
        [devid for (devid,) in drained],
    )


@asynccontextmanager
async def windows(directory: Path, url: str) -> AsyncIterator[Windows]:
    """A store on the empty database at `url`, which is reached over TCP."""
    async with AsyncExitStack() as stack:
        wire = await stack.enter_async_context(Tripwire())
        metadata = await open_metadata(url)
        stack.push_async_callback(metadata.close)
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None
        port = await wire.add_proxy((parts.hostname, parts.port))
        behind = f"{parts.scheme}://{parts.username}@127.0.0.1:{port}{parts.path}"
        nodes = await stack.enter_async_context(NodeClient())
        store = Windows(directory, url, behind, metadata, nodes, wire, {})
        for devid in range(1, NODES + 1):
            ip = f"127.0.0.{devid}"
            (directory / f"h{devid}" / f"dev{devid}").mkdir(parents=True)
            node = StorageNode(directory / f"h{devid}", http=(ip, 0), side_channel=None)
            await node.start()
            stack.push_async_callback(node.stop)
            store.doors[devid] = await wire.add_proxy(node.http_address, ip)
        store.dmid = await metadata.write(_set_up, store.doors)
        # The devices are known before files are on them, as in any store.
        await Monitor(ClusterView(metadata), metadata, nodes, side_channel_port=None).refresh_devices()
        yield store


async def _set_up(tx: Transaction, doors: dict[int, int]) -> int:
    dmid = await rows.create_domain(tx, DOMAIN)
    for devid, port in doors.items():
        hostid = await rows.create_host(tx, f"h{devid}", ip=f"127.0.0.{devid}", http_port=port, state="alive")
        await rows.create_device(tx, devid, hostid)
    return dmid


# --- what is cut short ------------------------------------------------------------------------------------------------

Attempt = Callable[[Windows, int], Awaitable[bool]]
"""Performs one action, with the victim killed after a number of pieces. Returns whether it finished before that."""


async def create_close(store: Windows, window: int) -> bool:
    """A tracker closes an upload that replaces a file."""
    key = f"close-{window}"
    await store.store(key, 1, 2, replicate=False)
    fid = await store.upload(key, 1)
    (port,) = free_ports(1)
    (store.directory / "tawara.toml").write_text(f"[store]\ndatabase = {json.dumps(store.behind)}\n")
    listen = f"--set=tracker.listen=127.0.0.1:{port}"
    async with store.process(*TAWARA, "tracker", "--json", listen, "--set=node.side_channel=") as victim:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = store.node_url(1, fid)
        line = f"create_close domain={DOMAIN}&fid={fid}&devid=1&path={path}&key={key}&size={len(CONTENT)}"
        store.wire.arm(window)
        writer.write(f"{line}\r\n".encode())
        answer = await first(reader.readline(), store.wire)
        victim.kill()
        await victim.wait()
        await store.wire.cut()
        writer.close()
    if answer is not None:
        assert answer.startswith(b"OK"), answer
        store.acknowledged[key] = fid
    return answer is not None


async def replicate(store: Windows, window: int) -> bool:
    """A worker makes the second copy of a file."""
    fid = await store.store(f"replicate {window}", 1, replicate=True)

    async def done() -> bool:
        while len(await store.metadata.read(_devids, fid)) != 2:
            await asyncio.sleep(0.02)
        return True

    return await _worked(store, "replicate", window, done)


async def delete(store: Windows, window: int) -> bool:
    """A worker removes the replicas of a deleted file."""
    key = f"delete {window}"
    fid = await store.store(key, 1, 2, replicate=False)
    await store.metadata.write(files.delete, store.dmid, key.encode(), now=int(time.time()))
    store.known[key] = {None}

    async def done() -> bool:
        while len(await store.metadata.read(_devids, fid)) + await store.metadata.read(_queued, "file_to_delete2", fid):
            await asyncio.sleep(0.02)
        return True

    return await _worked(store, "delete", window, done)


async def rebalancing(store: Windows, window: int) -> bool:
    """A worker moves the replica of a file from device 1 to another one."""
    fid = await store.store(f"rebalance {window}", 1, 2, replicate=False)
    if not await store.metadata.read(_rebalancing):  # else the run of a worker that was killed goes on
        await store.metadata.write(rebalance.reset)
        await store.metadata.write(rebalance.set_policy, "from_devices=1")
        cluster = await store.metadata.read(rows.load)
        await store.metadata.write(rebalance.start, cluster, host="here", now=int(time.time()))

    async def done() -> bool:
        while (1 in await store.metadata.read(_devids, fid)) + await store.metadata.read(_queued, "file_to_queue", fid):
            await asyncio.sleep(0.02)
        return True

    return await _worked(store, "rebalance", window, done)


async def copy(store: Windows, window: int) -> bool:
    """A client copies a file on its device, with a tracker that lives on."""
    key = f"copy {window}"
    await store.store(f"source of {key}", 1, 2, replicate=False)
    (port,) = free_ports(1)
    (store.directory / "tawara.toml").write_text(f"[store]\ndatabase = {json.dumps(store.url)}\n")
    listen = f"--set=tracker.listen=127.0.0.1:{port}"
    store.wire.arm(10**9)
    async with store.process(*TAWARA, "tracker", "--json", listen, "--set=node.side_channel="):
        proxy = await store.wire.add_proxy(("127.0.0.1", port))
        return await _copied(store, window, CONTENT, "client", f"127.0.0.1:{proxy}", f"source of {key}", key)


async def assemble(store: Windows, window: int) -> bool:
    """A gateway makes a file of another one, twice."""
    key = f"assemble {window}"
    await store.store(f"source of {key}", 1, 2, replicate=False)
    store.wire.arm(10**9)
    return await _copied(store, window, 2 * CONTENT, "store", store.behind, f"source of {key}", key)


async def _copied(store: Windows, window: int, wanted: bytes, *args: str) -> bool:
    """Run the process that copies, killed after a number of pieces. Returns whether it finished before."""
    key = args[-1]
    store.known[key] = {None, wanted}
    async with store.process(sys.executable, "-m", "tests.probe.copy_process", *args) as victim:
        assert victim.stdout is not None
        store.wire.arm(window)
        victim.send_signal(signal.SIGUSR1)
        answer = await first(victim.stdout.readline(), store.wire)
        victim.kill()
        await victim.wait()
    await store.wire.cut()
    if answer is not None:
        store.known[key], store.acknowledged[key] = {wanted}, int(answer)
    return answer is not None


VERBS: dict[str, Attempt] = {
    "create_close": create_close, "replicate": replicate, "delete": delete, "rebalance": rebalancing,
    "copy": copy, "assemble": assemble,
}  # fmt: skip
STRIDES = {"create_close": 7, "copy": 8, "assemble": 31}
"""Fewer windows are left out of what has little traffic."""


async def _worked(store: Windows, worker: str, window: int, done: Callable[[], Awaitable[bool]]) -> bool:
    """Run one worker that is killed after a number of pieces. Returns whether it finished before."""
    store.wire.arm(10**9)  # the start of the process is not what is cut short
    async with store.workers(store.behind, only=worker) as victim:
        store.wire.arm(window)
        finished = await first(done(), store.wire)
        victim.kill()
        await victim.wait()
    await store.wire.cut()
    return finished is not None


T = TypeVar("T")


async def first(work: Awaitable[T], wire: Tripwire) -> T | None:
    """The result of the work; None if the proxy cut it before."""
    working = asyncio.ensure_future(work)
    tripped = asyncio.ensure_future(wire.tripped.wait())
    try:
        async with asyncio.timeout(TIMEOUT):
            await asyncio.wait([working, tripped], return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        tripped.cancel()
        await asyncio.gather(working, tripped, return_exceptions=True)


async def _queued(tx: Transaction, table: str, fid: int) -> int:
    return len(await tx.rows(f"SELECT 1 FROM {table} WHERE fid = ?", fid))


async def _devids(tx: Transaction, fid: int) -> set[int]:
    return {devid for (devid,) in await tx.rows("SELECT devid FROM file_on WHERE fid = ?", fid)}


async def kill_in_each(store: Windows, verb: str, *, stride: int = 1) -> int:
    """Kill the victim in every `stride`th window up to the end. Returns the number of windows."""
    count = 0
    while not await VERBS[verb](store, count * stride):
        count += 1
    return count
