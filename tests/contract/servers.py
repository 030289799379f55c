"""Real database servers for the tests: started here on private directories, ended by pid. They are reached by Unix
sockets, and by a network address if one is given."""

from __future__ import annotations

import copy
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PASSWORD = secrets.token_hex(8)
"""Of the user `tawara` on the servers; goes by environment only."""
START_SECONDS = 60.0
MYSQL_VARIABLE = "TAWARA_TEST_MYSQL"
"""Names the directory into which MySQL was unpacked; without it MariaDB stands for both."""


@dataclass(frozen=True)
class Listen:
    """The network address of a server."""

    ip: str
    port: int
    peers: str
    """From which addresses: a network such as 127.0.0.0/8."""
    within: tuple[str, ...] = ()
    """What the server's command begins with: a program that becomes it, such as `nsenter` with a network namespace."""


class NotInstalled(RuntimeError):
    """A database server cannot be started because it is not installed."""


class Server(Protocol):
    """A running database server."""

    def url(self, database: str) -> str:
        """The address of one of its databases, without a password."""
        ...

    def create(self, database: str) -> str:
        """Create an empty database; return its URL."""
        ...

    def drop(self, database: str) -> None:
        """Remove a database, even while clients are connected."""
        ...

    def execute(self, database: str, statements: Sequence[str]) -> None:
        """Execute statements with the server's own client program."""
        ...

    def start(self) -> None:
        """Start it (again)."""
        ...

    def stop(self) -> None:
        """End it regularly, without waiting for its clients."""
        ...

    def kill(self) -> None:
        """Kill it, as a power failure does."""
        ...

    def pause(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        ...

    def resume(self) -> None:
        """Let it continue."""
        ...

    def remove(self) -> None:
        """Stop it and remove its directory."""
        ...


def _system_user(preferred: str) -> pwd.struct_passwd | None:
    """The user to run a server as: the current one, unless that is root, as which servers refuse to run."""
    if os.geteuid() != 0:
        return None
    for name in (preferred, "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NotInstalled(f'There is neither a user {preferred} nor a user "nobody" to run a database server as')


def _program(name: str, *places: str) -> str:
    candidates = [str(each) for place in places for each in sorted(Path("/").glob(f"{place}/{name}"), reverse=True)]
    found = next(iter(candidates), None) or shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise NotInstalled(f"{name} is not installed; `bin/setup-databases` installs the servers that the tests need")
    return found


def _quick_place() -> Path | None:
    """Memory, if there is enough: data written by a killed server survives there as well as on a disk."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024**3 else None


class _Process:
    """A server's directory and its process, run as a system user."""

    def __init__(self, name: str, user: str, place: Path | None, within: Sequence[str] = ()) -> None:
        self._user = _system_user(user)
        self._within = within
        self.directory = Path(tempfile.mkdtemp(prefix=f"tawara-{name}-", dir=place or _quick_place()))
        if self._user is not None:
            os.chown(self.directory, self._user.pw_uid, self._user.pw_gid)
        self.data = self.directory / "data"
        self.log = self.directory / "log"
        self._running: subprocess.Popen[bytes] | None = None

    def as_user(self, command: Sequence[str]) -> list[str]:
        """`command` as run by the server's user."""
        if self._user is None:
            return list(command)
        ids = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
        return ["setpriv", *ids, "--", *command]

    def once(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            self.as_user(command),
            cwd=self.directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            self.remove()
            raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')[-2000:]}")

    def run(self, command: Sequence[str]) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [*self._within, *self.as_user(command)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_for(self, probe: Sequence[str], environment: Mapping[str, str]) -> None:
        """Wait until `probe` succeeds."""
        end = time.monotonic() + START_SECONDS
        while subprocess.run(probe, env={**os.environ, **environment}, capture_output=True, check=False).returncode:
            if self._running is None or self._running.poll() is not None or time.monotonic() > end:
                message = f"The server did not start: {self.log.read_text(errors='replace')[-9000:]}"
                self.end(signal.SIGKILL)
                self.remove()
                raise RuntimeError(message)
            time.sleep(0.05)

    def end(self, by: signal.Signals) -> None:
        if self._running is not None:
            self._running.send_signal(by)
            self._running.wait(30)
            self._running = None

    def signal_all(self, number: signal.Signals) -> None:
        """Signal the server and the processes that it has started."""
        assert self._running is not None
        pid = self._running.pid
        processes = (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
        for each in processes:
            os.kill(each, number)
        if number is signal.SIGSTOP:  # which takes effect thread by thread
            while any(_runs(each) for each in processes):
                time.sleep(0.001)

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether any thread of a process is not stopped."""
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return any(stat.read_text().rpartition(")")[2].split()[0] not in "tTXZ" for stat in threads)


class PostgresServer:
    """PostgreSQL."""

    def __init__(self, place: Path | None = None, listen: Listen | None = None) -> None:
        """Start one whose directory is in `place`, or in memory."""
        self._listen = listen
        programs = "usr/lib/postgresql/*/bin"
        self._postgres = _program("postgres", programs)
        self._psql = _program("psql", programs)
        self._process = _Process("postgres", "postgres", place, listen.within if listen else ())
        self._create_data()
        self.start()

    def _create_data(self) -> None:
        """Create its data directory."""
        programs = "usr/lib/postgresql/*/bin"
        password = self._process.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._process.once(
            [
                *(_program("initdb", programs), "-D", str(self._process.data), "-U", "tawara", f"--pwfile={password}"),
                *("--auth=scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"),
            ]
        )
        password.unlink()
        if self._listen:
            with (self._process.data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all,replication tawara {self._listen.peers} scram-sha-256\n")

    def standby(self, listen: Listen | None = None) -> PostgresServer:
        """Another server, which follows this one by streaming replication, asynchronous by default."""
        made = copy.copy(self)
        made._listen = listen
        made._process = _Process("postgres", "postgres", None)
        port = ("-p", str(self._listen.port)) if self._listen else ()
        source = ("-h", str(self._process.directory), *port, "-U", "tawara", "-D", str(made._process.data))
        program = _program("pg_basebackup", "usr/lib/postgresql/*/bin")
        made._process.once(
            [program, *source, "-R", "-X", "stream", "-c", "fast", "--no-sync"], {"PGPASSWORD": PASSWORD}
        )
        made.start()
        return made

    def catch_up_with(self, primary: PostgresServer) -> None:
        """Wait until this standby has everything that its primary has now."""
        wanted = primary.ask("SELECT pg_current_wal_flush_lsn()")
        end = time.monotonic() + START_SECONDS
        while self.ask(f"SELECT pg_last_wal_replay_lsn() >= '{wanted}'") != "t":
            assert time.monotonic() < end, "the standby does not follow"
            time.sleep(0.05)

    def promote(self) -> None:
        """Make this standby a primary."""
        self._ask("SELECT pg_promote()")

    def ask(self, query: str) -> str:
        """The value of a query."""
        done = subprocess.run(
            [*self._client(query), "-At"],
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        return done.stdout.strip()

    def start(self) -> None:
        """See Server."""
        sockets = ["-c", f"unix_socket_directories={self._process.directory}"]
        sockets += ["-c", f"listen_addresses={self._listen.ip if self._listen else ''}"]
        sockets += ["-c", f"port={self._listen.port}"] if self._listen else []
        small = ("-c", "shared_buffers=64MB", "-c", "max_connections=100", "-c", "autovacuum_naptime=10min")
        self._process.run([self._postgres, "-D", str(self._process.data), *sockets, *small])
        self._process.wait_for(self._client("SELECT 1"), {"PGPASSWORD": PASSWORD})

    def _client(self, statement: str) -> list[str]:
        return [*self._program("postgres"), "-c", statement]

    def _program(self, database: str) -> list[str]:
        port = ("-p", str(self._listen.port)) if self._listen else ()
        return [self._psql, "-h", str(self._process.directory), *port, "-U", "tawara", "-d", database, "-q"]

    def _ask(self, statement: str) -> None:
        subprocess.run(
            self._client(statement), env={**os.environ, "PGPASSWORD": PASSWORD}, check=True, stdout=subprocess.DEVNULL
        )

    def url(self, database: str) -> str:
        """See Server."""
        if self._listen:
            return f"postgresql://tawara@{self._listen.ip}:{self._listen.port}/{database}"
        return f"postgresql://tawara@/{database}?host={self._process.directory}"

    def create(self, database: str) -> str:
        """See Server."""
        self._ask(f"CREATE DATABASE {database}")
        return self.url(database)

    def drop(self, database: str) -> None:
        """See Server."""
        self._ask(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def execute(self, database: str, statements: Sequence[str]) -> None:
        """See Server."""
        subprocess.run(
            [*self._program(database), "-v", "ON_ERROR_STOP=1"],
            input=";\n".join([*statements, ""]).encode(),
            env={**os.environ, "PGPASSWORD": PASSWORD},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def stop(self) -> None:
        """See Server."""
        self._process.end(signal.SIGINT)

    def kill(self) -> None:
        """See Server."""
        pid = self._process.data / "postmaster.pid"
        self._process.end(signal.SIGKILL)
        # The children notice by themselves that they are orphans; until then the shared memory is taken.
        segment = pid.read_text().split("\n")[6].split()[-1]
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            listing = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
            if all(line.split()[1] != segment or line.split()[6] == "0" for line in listing):
                return
            time.sleep(0.02)

    def pause(self) -> None:
        """See Server."""
        self._process.signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """See Server."""
        self._process.signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """See Server."""
        self._process.end(signal.SIGQUIT)
        self._process.remove()


class _MysqlServer(ABC):
    """What MariaDB and MySQL have in common; MariaDB's client is used for both."""

    def __init__(self, name: str, place: Path | None = None, listen: Listen | None = None) -> None:
        """Start one whose directory is in `place`, or in memory."""
        self._listen = listen
        self._client_program = _program("mariadb", "usr/bin")
        self._process = _Process(name, "mysql", place, listen.within if listen else ())
        self._socket = self._process.directory / "socket"
        self._process.once(self._create_data())
        self.start()
        self._make_user()

    def _make_user(self) -> None:
        for host in ("localhost", "%") if self._listen else ("localhost",):
            self._ask(f"CREATE USER tawara@'{host}' IDENTIFIED BY '{PASSWORD}'")
            self._ask(f"GRANT ALL ON *.* TO tawara@'{host}'")

    @abstractmethod
    def _create_data(self) -> list[str]:
        """The command that creates its data directory."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The program that runs it, as a command."""

    def _options(self) -> tuple[str, ...]:
        """Options of this server only."""
        return ()

    def start(self) -> None:
        """See Server."""
        network = ["--skip-networking"]
        if self._listen:
            network = [f"--bind-address={self._listen.ip}", f"--port={self._listen.port}", "--skip-name-resolve"]
        self._process.run(
            [
                *(*self._command(), "--no-defaults", f"--datadir={self._process.data}", f"--socket={self._socket}"),
                *(*network, "--innodb-buffer-pool-size=64M", "--max-connections=100"),
                *("--innodb-flush-log-at-trx-commit=1", f"--pid-file={self._process.directory / 'pid'}"),
                *(f"--log-error={self._process.log}", f"--tmpdir={self._process.directory}", *self._options()),
            ]
        )
        self._process.wait_for(self._client("SELECT 1"), {})

    def _client(self, statement: str) -> list[str]:
        return [self._client_program, "--no-defaults", f"--socket={self._socket}", "-u", "root", "-e", statement]

    def _ask(self, statement: str) -> None:
        # By standard input, so that a password is in no process's arguments.
        subprocess.run(self._client("")[:-2], input=statement.encode(), check=True, stdout=subprocess.DEVNULL)

    def url(self, database: str) -> str:
        """See Server."""
        if self._listen:
            return f"mysql://tawara@{self._listen.ip}:{self._listen.port}/{database}"
        return f"mysql://tawara@/{database}?unix_socket={self._socket}"

    def create(self, database: str) -> str:
        """See Server."""
        self._ask(f"CREATE DATABASE {database}")
        return self.url(database)

    def drop(self, database: str) -> None:
        """See Server."""
        self._ask(f"DROP DATABASE IF EXISTS {database}")

    def execute(self, database: str, statements: Sequence[str]) -> None:
        """See Server."""
        self._ask(";\n".join([f"USE {database}", "SET NAMES utf8mb4", *statements]))

    def stop(self) -> None:
        """See Server."""
        self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """See Server."""
        self._process.end(signal.SIGKILL)

    def pause(self) -> None:
        """See Server."""
        self._process.signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """See Server."""
        self._process.signal_all(signal.SIGCONT)

    def remove(self) -> None:
        """See Server."""
        self._process.end(signal.SIGTERM)
        self._process.remove()


class MariaServer(_MysqlServer):
    """MariaDB."""

    def __init__(self, place: Path | None = None, listen: Listen | None = None) -> None:
        """Start one whose directory is in `place`, or in memory."""
        super().__init__("mariadb", place, listen)

    def _create_data(self) -> list[str]:
        program = [_program("mariadb-install-db", "usr/bin"), "--no-defaults", f"--datadir={self._process.data}"]
        options = ("--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve")
        return [*program, f"--tmpdir={self._process.directory}", *options]

    def _command(self) -> list[str]:
        return [_program("mariadbd", "usr/sbin")]


class OracleServer(_MysqlServer):
    """MySQL, unpacked with its libraries into its own directory (`bin/setup-mysql`)."""

    def __init__(self, place: Path | None = None) -> None:
        """Start one whose directory is in `place`, or in memory."""
        self._unpacked = Path(os.environ[MYSQL_VARIABLE])
        super().__init__("mysql", place)

    def _command(self) -> list[str]:
        libraries = self._unpacked / "usr/lib/x86_64-linux-gnu"
        loader = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
        return [*loader, str(self._unpacked / "usr/sbin/mysqld")]

    def _options(self) -> tuple[str, ...]:
        share = self._unpacked / "usr/share/mysql"
        places = (f"--lc-messages-dir={share}", f"--character-sets-dir={share / 'charsets'}", "--secure-file-priv=NULL")
        return (*places, "--mysqlx=OFF", "--skip-log-bin")

    def _create_data(self) -> list[str]:
        options = ["--no-defaults", "--initialize-insecure", f"--datadir={self._process.data}", *self._options()]
        return [*self._command(), *options]


def mysql_server(place: Path | None = None) -> Server:
    """The server used for MySQL's protocol: MariaDB, or MySQL if the environment names it."""
    return (OracleServer if os.environ.get(MYSQL_VARIABLE) else MariaServer)(place)


@contextmanager
def running_servers() -> Iterator[Callable[[str], Server]]:
    """A server of each kind, `postgresql` or `mysql`, started when first needed."""
    os.environ["TAWARA_DB_PASSWORD"] = PASSWORD
    running: dict[str, Server] = {}

    def get(engine: str) -> Server:
        if engine not in running:
            running[engine] = PostgresServer() if engine == "postgresql" else mysql_server()
        return running[engine]

    try:
        yield get
    finally:
        for server in running.values():
            server.remove()
