"""A gateway is killed between any two pieces of its traffic while it completes or aborts an upload in parts."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tawara.metadata import access_keys, files
from tawara.metadata.contract import Transaction
from tawara.model.access.creation import new_key
from tawara.wire.installation_key import NONCE, SIZE, InstallationKey, render_key_file, seal
from tests.acceptance.store import free_ports
from tests.contract.servers import PASSWORD, Listen, PostgresServer, Server
from tests.probe.windows import CONTENT, DOMAIN, Windows, first, windows

ALL = bool(os.environ.get("TAWARA_PROBE_ALL"))
STRIDES = {"complete": 1, "abort": 1} if ALL else {"complete": 45, "abort": 33}
"""Only every Nth window, to save time; `make probe` tries all."""
KEY = "TW" + "A" * 18
SECRET = "s" * 40


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A database server that is reached over TCP."""
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    running = PostgresServer(None, Listen("127.0.0.1", free_ports(1)[0], "127.0.0.0/8"))
    yield running
    running.remove()


@dataclass
class Gateways:
    """The store, and a gateway that lives on."""

    store: Windows
    key_file: Path
    living: Any
    """A client of the gateway that lives on."""

    @asynccontextmanager
    async def gateway(self, database: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Any]]:
        """A gateway in a process of its own, and its client."""
        (port,) = free_ports(1)
        command = (sys.executable, "-m", "tests.probe.s3_process", database, str(port), str(self.key_file))
        async with self.store.process(*command) as process:
            yield process, client_of(port)

    async def upload(self, key: str) -> dict[str, str]:
        """Create an upload with one part, and return what names it."""
        named = {"Bucket": DOMAIN, "Key": key}
        made = await asyncio.to_thread(self.living.create_multipart_upload, **named)
        named["UploadId"] = made["UploadId"]
        part = await asyncio.to_thread(self.living.upload_part, **named, PartNumber=1, Body=CONTENT)
        self.store.known[key] = {None, CONTENT}
        return {**named, "etag": part["ETag"]}

    async def killed(self, window: int, name: str, **arguments: Any) -> Any:
        """Have a gateway perform an operation, and kill it after a number of pieces; the answer, None without one."""
        wire = self.store.wire
        wire.arm(10**9)  # the start of the process is not what is cut short
        async with self.gateway(self.store.behind) as (victim, client):
            wire.arm(window)
            asking = asyncio.ensure_future(asyncio.to_thread(partial(getattr(client, name), **arguments)))
            answer = await first(asyncio.shield(asking), wire)
            victim.kill()
            await victim.wait()
            await asyncio.gather(asking, return_exceptions=True)
        await wire.cut()
        return answer

    async def again(self, name: str, **arguments: Any) -> Any:
        """Have the gateway that lives on perform an operation; no lease of a dead one keeps it from that."""
        asking = asyncio.ensure_future(asyncio.to_thread(partial(getattr(self.living, name), **arguments)))
        while not asking.done():
            # Repeatedly, because the database may commit what the dead one sent last only now.
            await self.store.metadata.write(let_leases_end)
            await asyncio.wait([asking], timeout=0.2)
        return asking.result()


def client_of(port: int) -> Any:
    """A client that asks once."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 0}, read_timeout=50),
    )


async def let_leases_end(tx: Transaction) -> None:
    """Let the time pass after which another process completes an upload."""
    await tx.run("UPDATE tawara_multipart SET due = 0 WHERE state = 'joining'")


async def states(tx: Transaction) -> set[str]:
    """The states of all uploads."""
    return {state for (state,) in await tx.rows("SELECT state FROM tawara_multipart")}


@asynccontextmanager
async def gateways(directory: Path, url: str) -> AsyncIterator[Gateways]:
    """A store with an access key."""
    key_file = directory / "keys"
    installation = InstallationKey(b"k" * SIZE)
    key_file.write_text(render_key_file([installation]))
    key_file.chmod(0o600)
    async with windows(directory, url) as store:
        sealed = seal(installation, SECRET, owner=KEY, nonce=b"n" * NONCE)
        key = new_key("k", key_id=KEY, account_id="a" * 64, domains=["*=rwa"], expires="", sealed=sealed, now=1)
        await store.metadata.write(access_keys.create, key, own_account=True)
        made = Gateways(store, key_file, None)
        async with made.gateway(store.url) as (_, made.living):
            yield made


async def complete(made: Gateways, window: int) -> bool:
    """Complete an upload; whatever window it is killed in, the client completes it again and gets the same answer."""
    key = f"complete {window}"
    named = await made.upload(key)
    etag = named.pop("etag")
    parts: dict[str, Any] = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": etag}]}}
    answer = await made.killed(window, "complete_multipart_upload", **named, **parts, IfNoneMatch="*")
    again = await made.again("complete_multipart_upload", **named, **parts, IfNoneMatch="*")
    assert answer is None or answer["ETag"] == again["ETag"]
    stored = await made.store.metadata.read(files.find, made.store.dmid, key.encode())
    assert stored is not None
    assert f'"{stored.etag}"' == again["ETag"]
    made.store.known[key], made.store.acknowledged[key] = {CONTENT}, stored.fid
    return answer is not None


async def abort(made: Gateways, window: int) -> bool:
    """Abort an upload; afterwards it does not exist, or can be aborted again."""
    key = f"abort {window}"
    named = await made.upload(key)
    named.pop("etag")
    made.store.known[key] = {None}
    answer = await made.killed(window, "abort_multipart_upload", **named)
    try:
        await asyncio.to_thread(made.living.abort_multipart_upload, **named)
        assert answer is None
    except ClientError as error:
        assert error.response["Error"]["Code"] == "NoSuchUpload"
    with pytest.raises(ClientError):
        await asyncio.to_thread(made.living.upload_part, **named, PartNumber=1, Body=CONTENT)
    return answer is not None


OPERATIONS: dict[str, Callable[[Gateways, int], Awaitable[bool]]] = {"complete": complete, "abort": abort}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_killed_in_each_window(tmp_path: Path, server: Server, operation: str) -> None:
    """T10: an upload is completed once and answers the same, an aborted one is gone, and the workers leave no part."""
    url = server.create(f"windows_{uuid.uuid4().hex[:8]}")
    async with gateways(tmp_path, url) as made:
        count = 1
        while not await OPERATIONS[operation](made, count * STRIDES[operation]):
            count += 1
        assert count > 1
        await made.store.settle()
        assert await made.store.metadata.read(states) <= {"finished"}
