"""WebDAV with real clients: the conformance suite litmus, and cadaver."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.dav_fixture import dav_fixture
from tests.contract.servers import Server

TESTS = 104


async def run(*command: str, cwd: Path, stdin: bytes = b"") -> str:
    """Run a client; return all that it printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await asyncio.wait_for(process.communicate(stdin), 120)
    return printed.decode()


@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
async def test_litmus(tmp_path: Path, engine: str, database_servers: Callable[[str], Server]) -> None:
    """Every test of litmus passes on every database: basic, copymove, props, locks and http."""
    url = "" if engine == "sqlite" else database_servers(engine).create("webdav")
    async with dav_fixture(tmp_path, url=url) as dav:
        name, _, secret = (await dav.store.create_key("litmus", "d=rw")).partition(":")
        printed = await run("litmus", "-k", dav.url, name, secret, cwd=tmp_path)
    results = re.findall(r"of (\d+) tests run: (\d+) passed, (\d+) failed", printed)
    assert sum(int(passed) for _, passed, _ in results) == TESTS, printed


async def test_cadaver(tmp_path: Path) -> None:
    """cadaver stores, lists, locks, moves and fetches files."""
    (tmp_path / "home").mkdir()
    (tmp_path / "letter").write_bytes(b"Dear reader\n")
    async with dav_fixture(tmp_path) as dav:
        name, _, secret = (await dav.store.create_key("cadaver", "d=rw")).partition(":")
        netrc = tmp_path / "home" / ".netrc"
        netrc.write_text(f"machine 127.0.0.1 login {name} password {secret}\n")
        netrc.chmod(0o600)
        commands = (
            "mkcol box\nput letter box/letter\nlock box/letter\nunlock box/letter\nmove box/letter box/l2\nls box\n"
        )
        printed = await run(
            "env", f"HOME={tmp_path}/home", "cadaver", dav.url,
            cwd=tmp_path, stdin=f"{commands}get box/l2 {tmp_path}/fetched\nquit\n".encode(),
        )  # fmt: skip
        assert re.search(r"l2 +12 ", printed), printed
        assert (tmp_path / "fetched").read_bytes() == b"Dear reader\n"
