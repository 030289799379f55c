"""The unmodified client from the package index, `pymogilefs`, uses all its functions against our tracker."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pymogilefs import backend
from pymogilefs.client import Client
from pymogilefs.exceptions import MogilefsError

from tests.acceptance.tracker_fixture import store_fixture

T = TypeVar("T")


async def aside(call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """The client blocks, so it runs in a thread."""
    return await asyncio.to_thread(call, *args, **kwargs)


async def test_files(tmp_path: Path) -> None:
    """Store, find, read, list, replace and delete files."""
    async with store_fixture(tmp_path) as here:
        client = Client([here.tracker_name], "d")
        stored = await aside(client.store_file, io.BytesIO(b"hello"), "a/1")
        assert stored == {"path": f"http://{here.node_name}/dev1/0/000/000/0000000001.fid", "length": 5}
        await aside(client.store_file, io.BytesIO(b"x" * 100_000), "a/2", _class="md5")
        assert (await aside(client.get_paths, "a/1")).data == {"path_count": 1, "paths": {1: stored["path"]}}

        def read(key: str) -> bytes:
            body = client.get_file(key)
            try:
                content: bytes = body.read()
                return content
            finally:
                body.close()

        assert await aside(read, "a/1") == b"hello"
        assert await aside(read, "a/2") == b"x" * 100_000
        listed = (await aside(client.list_keys, prefix="a", after="a/1", limit=5)).data
        assert listed == {"key_count": 1, "next_after": "a/2", "keys": {1: "a/2"}}
        assert (await aside(client.list_keys, prefix="nothing")).data["key_count"] == 0
        await aside(client.store_file, io.BytesIO(b"again"), "a/1")
        assert await aside(read, "a/1") == b"again"
        await aside(client.delete_file, "a/1")
        with pytest.raises(MogilefsError) as refused:
            await aside(client.get_paths, "a/1")
        assert refused.value.code == "unknown_key"


async def test_administration(tmp_path: Path) -> None:
    """Domains, classes, hosts and devices are created, changed and deleted."""
    async with store_fixture(tmp_path) as here:
        admin = backend.Backend([here.tracker_name])
        assert (await aside(admin.create_domain, "e")).data == {"domain": "e"}
        made = (await aside(admin.create_class, "e", "c", 3)).data
        assert made == {"domain": "e", "class": "c", "mindevcount": "3"}
        assert (await aside(admin.update_class, "e", "c", 4)).data["mindevcount"] == "4"
        await aside(admin.delete_class, "e", "c")
        await aside(admin.delete_domain, "e")

        assert (await aside(admin.create_host, "two", "10.0.0.2", 7500)).data == {"id": "2", "name": "two"}
        assert (await aside(admin.update_host, "two", "10.0.0.3", 7501)).data == {"id": "2", "name": "two"}
        hosts = (await aside(admin.get_hosts)).data["hosts"]
        assert hosts[2]["hostip"] == "10.0.0.3"
        await aside(admin.create_device, "two", 5, "10.0.0.3", "alive")
        await aside(admin.set_state, "two", 5, "down")
        await aside(admin.set_weight, "two", 5, 7)
        devices = (await aside(admin.get_devices)).data["devices"]
        assert (devices["3"]["status"], devices["3"]["weight"]) == ("down", "7")
        with pytest.raises(MogilefsError) as refused:
            await aside(admin.delete_host, "two")
        assert refused.value.code == "host_not_empty"
        assert refused.value.message.strip() == "Unable to delete host; it contains devices still"
