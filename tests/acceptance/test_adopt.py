"""docs/adopt.md from its first command to its last, with an old installation on each of the engines. The old
installation consists of its database, a fake mogilefsd that executes mogilefsd's own statements on it, and storage
nodes that are plain HTTP servers."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from configparser import ConfigParser
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tawara.client import AsyncClient
from tawara.metadata.fid_locks import name_of
from tests.acceptance.daemons import Daemon
from tests.acceptance.store import TAWARA, free_ports
from tests.contract.empty_database import empty_database
from tests.contract.servers import PASSWORD, Server
from tests.mogilefsd import databases
from tests.mogilefsd.double import Mogilefsd, mogilefsd
from tests.mogilefsd.plain_node import PlainNode, plain_node

PAGE = Path(__file__).parents[2] / "docs" / "adopt.md"
COMPONENTS = ("tracker", "workers", "node")


def steps() -> dict[str, list[str]]:
    """The commands of the page, by their heading; each fenced block is an alternative."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in re.sub(r"^```$.*?^```$", "", PAGE.read_text(), flags=re.M | re.S).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# 0123456789.").strip()
        elif line.startswith("    "):
            found.setdefault(heading, []).append(line.strip())
    return found


def section(heading: str) -> str:
    """The text of the page below a heading, up to the next one of its level."""
    return re.split(r"\n# (?=\w)", PAGE.read_text().partition(f"\n# {heading}\n")[2])[0]


def table(heading: str) -> set[str]:
    """The names in the first column of the table below a heading."""
    return set(re.findall(r"^\| `([^`]+)` \|", section(heading), re.MULTILINE))


def units() -> dict[str, ConfigParser]:
    """The sample units, by file name."""
    found: dict[str, ConfigParser] = {}
    for path, text in re.findall(r"^```\n# (/etc/systemd/\S+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S):
        unit = found[Path(path).name] = ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment, method-assign]
        unit.read_string(text)
    return found


def others(root: Path) -> set[str]:
    """The contents of a node's directory besides files of the store: `dev/NAME`, `dev/DIRECTORY/`."""
    top = {path for path in root.glob("dev*/*") if not re.fullmatch(r"\d", path.name)}
    names = {f"dev/{path.name}{'/' if path.is_dir() else ''}" for path in top}
    names = {name.replace("test-write/", "test-write/*") for name in names}
    return names | ({".tawara/*"} if (root / ".tawara").exists() else set())


def test_all_commands_of_the_page_are_executed() -> None:
    """Every heading with commands is one that the test executes, in its order."""
    assert list(steps()) == [
        *("Examine", "Adopt", "Run a tracker beside mogilefsd", "Run workers beside mogilefsd", "Stop mogilefsd"),
        *("Replace storage nodes", "Allow longer keys and IPv6", "Return to MogileFS"),
    ]
    assert sum(map(len, steps().values())) == 19


@dataclass
class Operator:
    """Executes the commands of the page, with the paths and addresses of this machine."""

    directory: Path
    places: dict[str, str]
    machine: dict[str, Callable[[], None]]
    """What `systemctl` commands do here."""
    daemons: dict[str, Daemon] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def do(self, command: str) -> str:
        """Execute a command of the page; return its output."""
        if command in self.machine:
            self.machine[command]()
            return ""
        words = shlex.split(self.here(command))
        assert words[0] == "tawara", command
        assert PASSWORD not in command
        if words[1] in COMPONENTS:
            self.stop(words[1])
            daemon = Daemon(words[1], words[1:], self.directory)
            self.daemons[words[1]] = daemon
            daemon.start()
            return ""
        # Until workers run, and every file has its copies, `status` says so, and ends with 1.
        return self.run(*words[1:], status=(0, 1) if words[1] == "status" else (0,))

    def here(self, text: str) -> str:
        """A text of the page with the paths and addresses of this machine."""
        for place, here in self.places.items():
            text = text.replace(place, here)
        return text

    def run(self, *arguments: str, status: Collection[int] = (0,)) -> str:
        """The output of a tawara command; it must exit with one of these codes."""
        done = subprocess.run(
            [*TAWARA, *arguments],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=60,
            cwd=self.directory,
            check=False,
        )
        assert done.returncode in status, (arguments, done.stdout, done.stderr)
        self.said.append(done.stdout + done.stderr)
        return done.stdout

    def stop(self, *components: str) -> None:
        for component in components:
            daemon = self.daemons.pop(component, None)
            if daemon is not None and daemon.process is not None:
                daemon.stop()

    def end(self) -> None:
        for daemon in self.daemons.values():
            daemon.end()


@dataclass
class Old:
    """The old installation."""

    url: str
    original: Mogilefsd
    nodes: tuple[PlainNode, PlainNode]
    schema: str

    async def store(self, key: bytes, body: bytes) -> int:
        """Store a file on device 1 as a client of the old installation does."""
        fid = await self.original.open(1, key, 1)
        path = self.nodes[0].path(1, fid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        await self.original.close_upload(fid, 1, key, 1, len(body))
        return fid

    def replicas(self, fid: int) -> list[Path]:
        """The replicas on the disks."""
        places = [node.path(devid, fid) for node in self.nodes for devid in node.devids]
        return [path for path in places if path.exists()]


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def engine(request: pytest.FixtureRequest) -> str:
    """The engine of the old database."""
    name: str = request.param
    return name


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[PlainNode, PlainNode]]:
    """Two machines with two devices each."""
    with (
        plain_node(tmp_path / "one", "127.0.0.1", range(1, 3)) as one,
        plain_node(tmp_path / "two", "127.0.0.2", range(3, 5)) as two,
    ):
        yield one, two


@pytest.fixture
async def old(
    engine: str, tmp_path: Path, nodes: tuple[PlainNode, PlainNode], database_servers: Callable[[str], Server]
) -> AsyncIterator[Old]:
    """An installation with the domain `photos`, in use."""
    with empty_database(engine, tmp_path, database_servers, "mogile") as url:
        server = None if engine == "sqlite" else database_servers(engine)
        charset = f"ALTER DATABASE {databases.database_of(url)} CHARACTER SET latin1"
        databases.make(engine, url, server, [charset] if engine == "mysql" else [])
        async with mogilefsd(url, charset="latin1") as original:
            await original.ask("INSERT INTO domain (dmid, namespace) VALUES (1, 'photos')")
            for hostid, node in enumerate(nodes, 1):
                await original.ask(
                    "INSERT INTO host (hostid, status, hostname, hostip, http_port) VALUES (?, 'alive', ?, ?, ?)",
                    *(hostid, f"host{hostid}", node.ip, node.port),
                )
                for devid in node.devids:
                    await original.ask(
                        "INSERT INTO device (devid, hostid, status) VALUES (?, ?, 'alive')", devid, hostid
                    )
            yield Old(url, original, nodes, databases.schema(url))


def dsn(url: str) -> str:
    """The same database as a Perl DSN."""
    name = databases.database_of(url)
    option = url.partition("=")[2]
    if url.startswith("sqlite"):
        return f"DBI:SQLite:{databases.path_of(url)}"
    return f"DBI:Pg:dbname={name};host={option}" if url.startswith("pos") else f"DBI:mysql:{name};mysql_socket={option}"


@asynccontextmanager
async def operator(old: Old, directory: Path) -> AsyncIterator[Operator]:
    """The operator, with the old configuration file; only that has a password."""
    tracker, beside, side = free_ports(3)
    configuration = directory / "mogilefsd.conf"
    configuration.write_text(
        f"db_dsn = {dsn(old.url)}\ndb_user = tawara\ndb_pass = {PASSWORD}\nconf_port = {tracker}\nlisten = 127.0.0.1\n"
        f"mogstored_stream_port = {side}\nquery_jobs = 10\n"
    )
    node = old.nodes[1]
    walking = Operator(
        directory,
        {
            "/etc/mogilefs/mogilefsd.conf": str(configuration),
            "/etc/tawara": str(directory / "etc"),
            "0.0.0.0:7002": f"127.0.0.1:{beside}",
            "127.0.0.1:7002": f"127.0.0.1:{beside}",
            "10.0.0.12:7500": f"{node.ip}:{node.port}",
            "10.0.0.12:7501": f"{node.ip}:{side}",
            "/var/mogdata": str(node.root),
            "TRACKER": f"127.0.0.1:{tracker}",
        },
        {
            "systemctl stop mogilefsd": lambda: None,
            "systemctl start mogilefsd": lambda: None,
            "systemctl stop mogstored": node.stop,
            "systemctl start mogstored": node.start,
        },
    )
    try:
        yield walking
    finally:
        walking.end()


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.05)


def name_of_setting(row: tuple[Any, ...]) -> str:
    """The name in a row of server_settings; mogilefsd's SQLite driver returns bytes, the others return text."""
    name = row[0]
    return name.decode() if isinstance(name, bytes) else str(name)


@pytest.mark.timeout(240)
async def test_the_page_about_adoption(old: Old, tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of docs/adopt.md, in its order, does what the page says, in both directions."""
    monkeypatch.delenv("TAWARA_DB_PASSWORD", raising=False)
    page = steps()
    latin1 = b"caf\xe9"
    bodies = {b"plain": b"p" * 1000, "größe".encode(): b"u" * 10, latin1: b"l" * 100_000, b"empty": b""}
    fids = {key: await old.store(key, body) for key, body in bodies.items()}
    settings = await old.original.ask("SELECT * FROM server_settings")
    async with AsyncExitStack() as stack:
        walk = await stack.enter_async_context(operator(old, tmp_path))

        def do(heading: str) -> list[str]:
            return [walk.do(command) for command in page[heading]]

        async def client(place: str) -> AsyncClient:
            return await stack.enter_async_context(AsyncClient(walk.places[place], reply_timeout=10))

        (text,) = do("Examine")
        assert "photos (4 files)" in text
        assert "adds the tables tawara_file" in text
        assert databases.schema(old.url) == old.schema

        do("Adopt")
        do("Adopt")
        etc = tmp_path / "etc"
        assert (etc / "database.password").stat().st_mode & 0o777 == 0o600
        assert PASSWORD not in (etc / "tawara.toml").read_text()
        assert ("keys=latin1" in (etc / "tawara.toml").read_text()) == (engine == "mysql")
        assert await old.original.claim("file_to_replicate", limit=1) == [fids[b"plain"]]  # mogilefsd goes on

        listed = do("Run a tracker beside mogilefsd")[2]
        assert "plain" in listed
        beside = await client("127.0.0.1:7002")
        for key, body in bodies.items():
            name = key.decode("utf-8", "surrogateescape")
            assert await beside.get("photos", name) == body
        await beside.put("photos", "neu", b"from us")
        await old.original.finish("file_to_replicate", fids[b"plain"])
        assert await old.original.find(1, b"neu") is not None

        other = await old.store(b"locked", b"x")
        assert await old.original.get_lock(name_of(other))
        do("Run workers beside mogilefsd")
        await until(lambda: len(old.replicas(fids[latin1])) == 2)
        assert len(old.replicas(fids[b"plain"])) == 1  # the other side had claimed it, and says that it is done
        await asyncio.sleep(1)
        assert len(old.replicas(other)) == 1
        await old.original.release_lock(name_of(other))
        await until(lambda: len(old.replicas(other)) == 2)
        assert {path.read_bytes() for path in old.replicas(fids[latin1])} == {bodies[latin1]}

        do("Stop mogilefsd")
        alone = await client("TRACKER")
        await alone.delete("photos", "locked")
        await until(lambda: not old.replicas(other))
        await alone.rename("photos", "plain", "renamed")

        do("Replace storage nodes")
        await alone.put("photos", "later", b"z" * 70_000)
        found = await old.original.find(1, b"later")
        assert found is not None
        await until(lambda: len(old.replicas(found[0])) == 2)

        do("Allow longer keys and IPv6")
        walk.run("adopt", "--mogilefsd-conf", walk.places["/etc/mogilefs/mogilefsd.conf"], "--widen", "--yes")
        assert re.search(r"dkey`? (varchar|character varying)\(1024\)", databases.schema(old.url)) or engine == "sqlite"

        await until(lambda: {"usage", "tawara-identity"} <= {path.name for path in old.nodes[1].root.glob("dev3/*")})
        walk.stop(*COMPONENTS)
        written = {file for node in old.nodes for file in others(node.root)}
        assert written - {f"dev/{place}" for place in table("Files written to existing disks")} == {".tawara/*"}
        assert {"dev/names/", "dev/test-write/*", "dev/tawara-identity", "dev/~incoming/"} <= written
        await until_no_lease_runs(old.original)
        do("Return to MogileFS")
        assert databases.schema(old.url) == old.schema
        left = await old.original.ask("SELECT * FROM server_settings")
        kept = [row for row in left if name_of_setting(row).startswith("tawara_")]
        assert sorted(row for row in left if row not in kept) == sorted(settings)
        assert {name_of_setting(row) for row in kept} == {"tawara_epoch", "tawara_names_known"}, (
            "by which it is recognised when it is adopted again"
        )
        assert await old.original.keys(1) == {b"renamed", "größe".encode(), latin1, b"empty", b"neu", b"later"}
        after = await old.original.find(1, b"renamed")
        assert after is not None
        assert after[0] == fids[b"plain"]
        later = await old.original.find(1, b"later")
        assert later is not None
        assert {old.nodes[(devid - 1) // 2].path(devid, later[0]).read_bytes() for devid in later[2]} == {b"z" * 70_000}
        assert await old.store(b"after", b"mogilefsd goes on") > later[0]
    for text in (*walk.said, *(path.read_text() for path in tmp_path.glob("*.log"))):
        assert PASSWORD not in text
        assert "Traceback" not in text


async def until_no_lease_runs(original: Mogilefsd) -> None:
    """Let a minute pass."""
    await original.ask("UPDATE tawara_copy SET lease = 0")


async def test_interrupted_copies(old: Old, tmp_path: Path, engine: str) -> None:
    """On the return, data without a row is deleted from devices that respond, and listed for the others."""
    fid = await old.store(b"k", b"bytes")
    async with operator(old, tmp_path) as walk:
        conf = ("--mogilefsd-conf", walk.places["/etc/mogilefs/mogilefsd.conf"])
        walk.run("adopt", *conf, "--yes")
        for devid in (2, 3):
            path = old.nodes[(devid - 1) // 2].path(devid, fid)
            path.parent.mkdir(parents=True)
            path.write_bytes(b"byt")
            await old.original.ask(f"INSERT INTO tawara_copy (fid, devid, lease) VALUES ({fid}, {devid}, 0)")
        old.nodes[1].stop()
        assert "deletes the bytes of 2 copies" in walk.run("adopt", *conf, "--undo")
        report = json.loads(walk.run("adopt", *conf, "--undo", "--yes", "--json"))
        assert re.fullmatch(rf"http://127\.0\.0\.2:\d+/dev3/0/000/000/{fid:010d}\.fid", *report["left_behind"])
        assert not old.nodes[0].path(2, fid).exists()
        assert old.nodes[0].path(1, fid).exists()
        assert databases.schema(old.url) == old.schema
        assert walk.run("adopt", *conf, "--undo", "--yes")  # done already


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_the_sample_units(old: Old, tmp_path: Path) -> None:
    """The command of each unit, with the configuration that the page describes, starts and stops as its type
    requires."""
    found = units()
    assert found.keys() == {f"tawara-{component}.service" for component in COMPONENTS}
    async with operator(old, tmp_path) as walk:
        etc = Path(walk.places["/etc/tawara"])
        walk.run("adopt", "--mogilefsd-conf", walk.places["/etc/mogilefs/mogilefsd.conf"], "--write", str(etc), "--yes")
        (addition,) = re.findall(r"^```\n(\[node\]\n.*?)^```$", section("Sample units"), re.M | re.S)
        old.nodes[1].stop()
        head, node, rest = (etc / "tawara.toml").read_text().partition("[node]\n")
        for line in walk.here(addition).splitlines()[1:]:
            rest, replaced = re.subn(rf"^{line.split()[0]} = .*$", line, rest, count=1, flags=re.MULTILINE)
            assert replaced
        (etc / "tawara.toml").write_text(head + node + rest)
        for name, unit in found.items():
            service = unit["Service"]
            assert (service["Type"], service["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")
            words = shlex.split(walk.here(service["ExecStart"]))
            assert words[0] == "/usr/local/bin/tawara"
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(str(tmp_path / name))
                manager.settimeout(30)
                environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / name)}
                process = subprocess.Popen([*TAWARA, *words[1:]], env=environment, stdout=subprocess.DEVNULL)
                try:
                    while b"READY=1" not in (await asyncio.to_thread(manager.recv, 100)).split(b"\n"):
                        pass  # the listening sockets, which systemd keeps during a restart
                    process.send_signal(signal.SIGHUP)
                    await asyncio.sleep(0.2)
                    process.terminate()
                    assert await asyncio.to_thread(process.wait, 30) == 0
                finally:
                    process.kill()
                    process.wait()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_undo_after_a_rebuild(old: Old, tmp_path: Path) -> None:
    """A database that was restored from a dump and merged can be returned; one that Tawara created cannot."""
    bodies = {b"early": b"e" * 1000, b"late": b"l" * 2000}
    fids = {b"early": await old.store(b"early", bodies[b"early"])}
    async with operator(old, tmp_path) as walk:
        conf = ("--mogilefsd-conf", walk.places["/etc/mogilefs/mogilefsd.conf"])
        walk.run("adopt", *conf, "--write", str(tmp_path / "etc"), "--yes")
        for step in ("tracker", "workers"):
            walk.do(f"tawara {step} -c /etc/tawara/tawara.toml")
        await until(lambda: len(old.replicas(fids[b"early"])) == 2)
        dump = sqlite3.connect(tmp_path / "dump.db")
        with closing(sqlite3.connect(databases.path_of(old.url))) as live:
            live.backup(dump)
        async with AsyncClient(walk.places["TRACKER"], reply_timeout=10) as client:
            await client.put("photos", "late", bodies[b"late"])
        written = [f"http://{node.ip}:{node.port}/dev{devid}" for node in old.nodes for devid in node.devids]
        await until(lambda: journaled(old, b"late"))
        walk.stop("tracker", "workers")
        walk.run("backup", str(tmp_path / "backup"), "--database", old.url)
        for made, command in {"rebuilt": ("rebuild",), "restored": ("restore", str(tmp_path / "backup"))}.items():
            url = f"sqlite://{tmp_path}/{made}.db"
            walk.run(*command, url, *(written if made == "rebuilt" else ()))
            walk.run("adopt", url, "--undo", "--yes", status=(2,))
            assert "made by Tawara" in walk.said[-1]
        with closing(sqlite3.connect(databases.path_of(old.url))) as live:
            dump.backup(live)
        walk.run("rebuild", old.url, "--merge")
        await until_no_lease_runs(old.original)
        walk.run("adopt", *conf, "--undo", "--yes")
    assert databases.schema(old.url) == old.schema
    greatest = 0
    for key, body in bodies.items():
        found = await old.original.find(1, key)
        assert found is not None
        greatest = max(greatest, found[0])
        assert {old.nodes[(devid - 1) // 2].path(devid, found[0]).read_bytes() for devid in found[2]} == {body}
    assert await old.store(b"after", b"mogilefsd goes on") > greatest


def journaled(old: Old, key: bytes) -> bool:
    """Whether a journal on the devices has a record of the key."""
    files = [path for node in old.nodes for path in node.root.glob("dev*/names/tail-*")]
    return any(key in gzip.decompress(path.read_bytes()) for path in files)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_refusals(old: Old, tmp_path: Path) -> None:
    """Wrong usage ends with a message and its exit code, and changes nothing."""
    async with operator(old, tmp_path) as walk:
        conf = ("--mogilefsd-conf", walk.places["/etc/mogilefs/mogilefsd.conf"])
        walk.run("adopt", status=(2,))
        walk.run("adopt", *conf, "--undo", "--widen", status=(2,))
        walk.run("adopt", f"sqlite://{tmp_path}/none.db", status=(2,))
        walk.run("adopt", "--mogilefsd-conf", str(tmp_path / "none.conf"), status=(3,))
        (tmp_path / "other.conf").write_text(f"db_dsn = DBI:Oracle:x\ndb_pass = {PASSWORD}\n")
        walk.run("adopt", "--mogilefsd-conf", str(tmp_path / "other.conf"), status=(2,))
        (tmp_path / "other.conf").write_text(f"db_pass: {PASSWORD}\n")
        walk.run("adopt", "--mogilefsd-conf", str(tmp_path / "other.conf"), status=(2,))
        assert not any(PASSWORD in text for text in walk.said)
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "tawara.toml").write_text("# mine\n")
        walk.run("adopt", *conf, "--yes", "--write", str(tmp_path / "etc"), status=(2,))
        assert (tmp_path / "etc" / "tawara.toml").read_text() == "# mine\n"
        await old.original.ask("UPDATE device SET status = 'resting'")
        assert databases.schema(old.url) != old.schema
        walk.run("adopt", *conf, "--undo", "--yes")
        assert "Blockers" in walk.run("adopt", *conf, status=(1,))
        walk.run("adopt", *conf, "--yes", status=(2,))
        assert databases.schema(old.url) == old.schema


@pytest.mark.parametrize("engine", ["mysql"], indirect=True)
async def test_a_user_without_the_right_to_create_tables(
    old: Old, tmp_path: Path, database_servers: Callable[[str], Server]
) -> None:
    """If the database refuses, the message says so with the likely reason, and nothing is changed."""
    name = databases.database_of(old.url)
    user = f"reader{os.getpid()}"
    rights = [
        f"CREATE USER {user}@localhost IDENTIFIED BY '{PASSWORD}'",
        f"GRANT SELECT ON {name}.* TO {user}@localhost",
    ]
    database_servers("mysql").execute(name, rights)
    async with operator(old, tmp_path) as walk:
        conf = tmp_path / "mogilefsd.conf"
        conf.write_text(conf.read_text().replace("db_user = tawara", f"db_user = {user}"))
        walk.run("adopt", "--mogilefsd-conf", str(conf))
        walk.run("adopt", "--mogilefsd-conf", str(conf), "--yes", status=(2,))
        assert "may create and alter tables" in walk.said[-1]
    assert databases.schema(old.url) == old.schema
    database_servers("mysql").execute(name, [f"DROP USER {user}@localhost"])
