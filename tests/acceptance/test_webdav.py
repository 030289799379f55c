"""WebDAV with real clients: the conformance suite litmus, cadaver, rclone, gvfs and davfs2."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tawara.metadata import files
from tests.acceptance.dav_fixture import dav_fixture
from tests.contract.servers import Server

TESTS = 104


async def run(*command: str, cwd: Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> str:
    """Run a client; return all that it printed. `environment`: variables in addition."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await asyncio.wait_for(process.communicate(stdin), 120)
    return printed.decode()


@pytest.mark.parametrize("nginx", [True, False], ids=["nginx", "python"])
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "mysql"])
async def test_litmus(tmp_path: Path, engine: str, nginx: bool, database_servers: Callable[[str], Server]) -> None:
    """Every test of litmus passes on every database: basic, copymove, props, locks and http."""
    url = "" if engine == "sqlite" else database_servers(engine).create(f"webdav_{nginx:d}")
    async with dav_fixture(tmp_path, nginx=nginx, url=url) as dav:
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


async def test_rclone(tmp_path: Path) -> None:
    """rclone copies a tree into the store, finds nothing to do when it repeats that, renames, and fetches the same."""
    rclone = str(Path(sys.executable).with_name("rclone"))
    tree = tmp_path / "tree"
    (tree / "a b" / "ü").mkdir(parents=True)
    for name, size in {"empty": 0, "a b/1 %25+&#.txt": 5, "a b/ü/large": 3_000_000}.items():
        (tree / name).write_bytes(os.urandom(size))
    async with dav_fixture(tmp_path) as dav:
        name, _, secret = (await dav.store.create_key("rclone", "d=rw")).partition(":")
        hidden = await run(rclone, "obscure", "-", cwd=tmp_path, stdin=secret.encode())
        environment = {
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CONFIG_S_TYPE": "webdav",
            "RCLONE_CONFIG_S_URL": dav.url,
            "RCLONE_CONFIG_S_USER": name,
            "RCLONE_CONFIG_S_PASS": hidden.strip(),
        }

        async def work(*arguments: str) -> str:
            return await run(rclone, *arguments, cwd=tmp_path, environment=environment)

        assert await work("sync", "tree", "s:copy") == ""
        assert await work("check", "--download", "tree", "s:copy", "-q") == ""
        assert "nothing to transfer" in await work("sync", "--size-only", "-v", "tree", "s:copy")
        assert await work("moveto", "s:copy/a b", "s:copy/c/d") == ""
        assert (await work("lsf", "-R", "--files-only", "s:")).split("\n")[:-1] == [
            "copy/empty", "copy/c/d/1 %25+&#.txt", "copy/c/d/ü/large",
        ]  # fmt: skip
        assert await work("copy", "s:copy/c/d/ü", "back") == ""
        assert (tmp_path / "back" / "large").read_bytes() == (tree / "a b" / "ü" / "large").read_bytes()
        assert '"free"' in await work("about", "--json", "s:")
        assert await work("purge", "s:copy") == ""
        assert await dav.store.metadata.read(files.list_keys, 1, b"", None, 100) == []


async def test_davfs2(tmp_path: Path) -> None:
    """Files written, renamed and removed in a mount of davfs2 are in the store once it is unmounted."""
    if os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("cannot mount: needs root and /dev/fuse")
    mount, secrets, conf = (tmp_path / name for name in ("mount", "secrets", "conf"))
    mount.mkdir()
    # davfs2 has a user of its own, who may not enter the directory of the test.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as cache:
        os.chmod(cache, 0o777)
        conf.write_text(f"secrets {secrets}\ncache_dir {cache}\n")
        await use_mount(tmp_path, mount, secrets, conf)


async def use_mount(tmp_path: Path, mount: Path, secrets: Path, conf: Path) -> None:
    """Mount a store, write into it, unmount it, and look into the store."""
    async with dav_fixture(tmp_path) as dav:
        secrets.write_text(f"{dav.url} {(await dav.store.create_key('davfs', 'd=rw')).replace(':', ' ')}\n")
        secrets.chmod(0o600)
        await run("mount", "-t", "davfs", "-o", f"conf={conf}", dav.url, str(mount), cwd=tmp_path)
        try:
            assert mount.is_mount()
            script = "mkdir p && echo hello > p/a && mv p/a p/b && echo x > gone && rm gone && echo y > 'ü 1'"
            assert await run("sh", "-ec", script, cwd=mount) == ""
        finally:
            await run("umount", str(mount), cwd=tmp_path)
        keys = await dav.store.metadata.read(files.list_keys, 1, b"", None, 100)
        assert keys == [b"p/", b"p/b", "ü 1".encode()]
        assert (await dav.store.stored(b"p/b")).length == len("hello\n")
