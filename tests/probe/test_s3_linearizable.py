"""Clients of two S3 gateways write, complete, read and delete a few keys, with conditions, while a gateway is killed;
a history must explain every answer, and the final contents."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tawara.metadata import access_keys
from tawara.metadata.open import open_metadata
from tawara.model.access.creation import new_key
from tawara.wire.installation_key import NONCE, SIZE, InstallationKey, render_key_file, seal
from tests.acceptance.conftest import database_servers
from tests.acceptance.daemons import DOMAIN, separate_daemons
from tests.acceptance.store import free_ports
from tests.contract.empty_database import empty_database
from tests.contract.servers import Server
from tests.probe.histories import NEVER
from tests.probe.s3_histories import S3Call, S3Result, S3Verb, explained
from tests.probe.test_completion_killed import KEY, SECRET, client_of

__all__ = ["database_servers"]

CLIENTS = 6
CALLS = 8
"""Calls of each client."""
KEYS = ("a", "b")
_CODES = {"NoSuchKey": S3Result.ABSENT, "PreconditionFailed": S3Result.FAILED}


ALL = bool(os.environ.get("TAWARA_PROBE_ALL"))


@pytest.fixture(params=["sqlite", "postgresql", "mysql"] if ALL else ["postgresql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the engine."""
    name: str = request.param
    return name


@pytest.fixture
def database(engine: str, database_servers: Callable[[str], Server], tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    with empty_database(engine, tmp_path, database_servers, "s3_history") as url:
        yield url


@dataclass
class S3Clients:
    """The clients, and the answers that they got."""

    gateways: list[Any]
    """A client of each gateway."""
    up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while all gateways run; calls to others prove nothing."""
    clock: int = 0
    told: dict[str, list[S3Call]] = field(default_factory=lambda: {key: [] for key in KEYS})

    def tick(self) -> int:
        """The time; every call returns a new one."""
        self.clock += 1
        return self.clock

    async def client(self, name: int) -> None:
        """Make one client's calls, one after another."""
        rng = random.Random(name)
        seen = ""
        for number in range(CALLS):
            client, key = rng.choice(self.gateways), rng.choice(KEYS)
            content = f"{name}/{number}"
            kind = rng.choice(("put", "put", "complete", "get", "get", "delete"))
            condition = rng.choice(({}, {}, {"IfNoneMatch": "*"}, {"IfMatch": seen} if seen else {}))
            if kind == "put":
                seen = await self.write(key, content, client.put_object, condition, Body=content.encode()) or seen
            elif kind == "complete":
                parts = await self.parts(client, key, content)
                if parts is not None:
                    await self.write(key, content, client.complete_multipart_upload, condition, **parts)
            elif kind == "get":
                seen = await self.read(key, client) or seen
            else:
                await self.call(S3Call(S3Verb.DELETE, 0, 0, S3Result.LOST), key, client.delete_object)

    async def parts(self, client: Any, key: str, content: str) -> dict[str, Any] | None:
        """Upload a part, and return the rest of the completion; None if that fails."""
        named = {"Bucket": DOMAIN, "Key": key}
        try:
            made = await asyncio.to_thread(partial(client.create_multipart_upload, **named))
            given = {**named, "UploadId": made["UploadId"], "PartNumber": 1, "Body": content.encode()}
            part = await asyncio.to_thread(partial(client.upload_part, **given))
        except (ClientError, BotoCoreError):
            return None
        listed = [{"PartNumber": 1, "ETag": part["ETag"]}]
        return {"UploadId": made["UploadId"], "MultipartUpload": {"Parts": listed}}

    async def write(
        self, key: str, content: str, function: Callable[..., Any], condition: dict[str, str], **more: Any
    ) -> str:
        """Store an object, unconditionally or not; return its entity tag if that is known."""
        over = self.contents.get(condition.get("IfMatch", ""), "")
        call = S3Call(
            S3Verb.WRITE,
            0,
            0,
            S3Result.LOST,
            content,
            only_new="IfNoneMatch" in condition,
            only_over=over,
        )
        answer = await self.call(call, key, function, **condition, **more)
        if isinstance(answer, dict):
            self.contents[answer["ETag"]] = content
            return str(answer["ETag"])
        return ""

    contents: dict[str, str] = field(default_factory=dict)
    """Entity tag -> content."""

    async def read(self, key: str, client: Any) -> str:
        """Read an object; return its entity tag if there is one."""

        def get(**named: Any) -> dict[str, Any]:
            found = client.get_object(**named)
            return {"ETag": found["ETag"], "content": found["Body"].read().decode()}

        answer = await self.call(S3Call(S3Verb.READ, 0, 0, S3Result.LOST), key, get)
        if isinstance(answer, dict):
            self.contents[answer["ETag"]] = answer["content"]
            return str(answer["ETag"])
        return ""

    async def call(self, call: S3Call, key: str, function: Callable[..., Any], **given: Any) -> Any:
        """Make one call and record it; return the answer, None without one."""
        began, ended, found = self.tick(), NEVER, None
        answer: S3Result | str = S3Result.LOST
        try:
            found = await asyncio.to_thread(partial(function, Bucket=DOMAIN, Key=key, **given))
            answer = found["content"] if call.verb is S3Verb.READ else S3Result.DONE
        except ClientError as error:
            answer = _CODES.get(error.response["Error"]["Code"], S3Result.LOST)
        except BotoCoreError:
            await self.up.wait()
        if answer is not S3Result.LOST:
            ended = self.tick()
        self.told[key].append(S3Call(call.verb, began, ended, answer, call.content, call.only_new, call.only_over))
        return found


@pytest.mark.timeout(300)
async def test_s3_is_linearizable(tmp_path: Path, database: str) -> None:
    """K1, K3, T10: one order of all requests explains every answer, though a gateway is killed among them."""
    installation = InstallationKey(os.urandom(SIZE))
    key_file = tmp_path / "keys"
    key_file.write_text(render_key_file([installation]))
    key_file.chmod(0o600)
    with separate_daemons(tmp_path, database, nodes=1) as store:
        for name in ("tracker", "node1"):
            await asyncio.to_thread(store.daemons[name].start)
        await asyncio.to_thread(store.describe)
        metadata = await open_metadata(database)
        sealed = seal(installation, SECRET, owner=KEY, nonce=os.urandom(NONCE))
        key = new_key("k", key_id=KEY, account_id="a" * 64, domains=["*=rwa"], expires="", sealed=sealed, now=1)
        await metadata.write(access_keys.create, key, own_account=True)
        await metadata.close()
        async with AsyncExitStack() as stack:
            ports = free_ports(2)
            clients = S3Clients([client_of(port) for port in ports])

            async def start(port: int) -> asyncio.subprocess.Process:
                log = stack.enter_context((tmp_path / f"gateway-{port}").open("ab"))
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "tests.probe.s3_process", database, str(port), str(key_file)),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                )
                stack.push_async_callback(process.wait)

                def end() -> None:
                    if process.returncode is None:
                        process.kill()

                stack.callback(end)
                assert process.stdout is not None
                assert await process.stdout.readline()
                return process

            one, _ = [await start(port) for port in ports]
            clients.up.set()
            running = [asyncio.create_task(clients.client(name)) for name in range(CLIENTS)]
            while sum(map(len, clients.told.values())) < CLIENTS * CALLS / 3:
                await asyncio.sleep(0.01)
                for task in running:
                    if task.done():
                        task.result()
            clients.up.clear()
            one.kill()
            await one.wait()
            await start(ports[0])
            clients.up.set()
            await asyncio.gather(*running)
            for each in KEYS:
                await clients.read(each, clients.gateways[0])
    for each, told in clients.told.items():
        assert told[-1].answer is not S3Result.LOST
        answered = [call for call in told if call.answer is not S3Result.LOST]
        assert len(answered) > len(told) / 2, "too little was answered to judge by"
        assert explained(told), "\n".join([f"no history of {each} explains", *map(str, told)])
