"""What is prepared for nginx, and what is cleaned up after it, without running one."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.gateway import nginx, nginx_processes
from tawara.gateway.nginx import NginxFront, listen_unix
from tawara.gateway.nginx_parameters import DEVICES, ERRORS
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.spool import BODIES
from tawara.model.errors import ConfigurationError
from tawara.model.limits import Limits

BINARY = Path("/usr/sbin/nginx-of-a-test")


@pytest.fixture
def public() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def _front(directory: Path, **options: Any) -> NginxFront:
    return NginxFront(directory / "state", binary=BINARY, **options)


def _prepare(front: NginxFront, public: socket.socket, devices: Path | None = None) -> str:
    front.take_directory()
    front._prepare({ListenerProtocol.HTTP: public}, devices, Limits())
    return (front.directory / "nginx.conf").read_text()


async def test_a_directory_is_of_one_gateway(tmp_path: Path) -> None:
    """A second gateway is refused the directory or the spool of the first, by name, until that one stops."""
    first, second = _front(tmp_path), _front(tmp_path)
    first.take_directory()
    assert first.directory.stat().st_mode & 0o777 == 0o700
    with pytest.raises(ConfigurationError, match="Another gateway runs with the directory"):
        second.take_directory()
    await first.stop()
    second.take_directory()
    third = NginxFront(tmp_path / "other", spool=tmp_path / "state", binary=BINARY)
    with pytest.raises(ConfigurationError, match="Another gateway runs with the spool"):
        third.take_directory()
    await second.stop()
    await third.stop()


async def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """A directory that cannot be created is a ConfigurationError with the reason."""
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="state cannot be used: "):
        _front(tmp_path).take_directory()


@pytest.mark.parametrize("cpus", [None, 1, 3, 64])
def test_workers_by_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int | None) -> None:
    """nginx has a worker for each processor, at most four, one if their number is unknown; or as configured."""
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert _front(tmp_path)._workers == min(4, cpus or 1)
    assert _front(tmp_path, workers=9)._workers == 9


@pytest.mark.parametrize(
    ("hard", "connections"), [(resource.RLIM_INFINITY, 8192), (100_000, 8192), (4096, 1984), (100, 64)]
)
async def test_connections_by_open_files(
    tmp_path: Path, public: socket.socket, monkeypatch: pytest.MonkeyPatch, hard: int, connections: int
) -> None:
    """A worker has as many connections as the hard limit of open files allows with two of them each."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, hard))
    front = _front(tmp_path)
    text = _prepare(front, public)
    assert f"worker_connections {connections};" in text
    assert f"127.0.0.1:{public.getsockname()[1]}" in text
    await front.stop()


@pytest.mark.parametrize("apart", [False, True])
async def test_nothing_of_an_earlier_run_is_left(tmp_path: Path, public: socket.socket, apart: bool) -> None:
    """Temporary files and bodies are removed; bodies and devices are reached through the directory."""
    devices, spool = tmp_path / "devices", tmp_path / "spool" if apart else None
    devices.mkdir()
    front = _front(tmp_path, spool=spool)
    for path in (front.directory / "temporary", front.spool.bodies):
        path.mkdir(parents=True)
        (path / "1").touch()
    _prepare(front, public, devices)
    assert os.listdir(front.directory / "temporary") == os.listdir(front.spool.bodies) == []
    assert (front.directory / BODIES).is_symlink() is apart
    assert (front.directory / BODIES).samefile(front.spool.bodies)
    assert (front.directory / DEVICES).samefile(devices)
    await front.stop()
    back = _front(tmp_path)  # the spool is configured in the directory again, and the devices are none of ours
    _prepare(back, public)
    assert not (back.directory / BODIES).is_symlink()
    assert not (back.directory / DEVICES).is_symlink()
    await back.stop()


def test_a_long_error_log_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error log is renamed when it is longer than the limit, over an older one; a missing log is short."""
    front = _front(tmp_path)
    front.directory.mkdir()
    monkeypatch.setattr(nginx, "_ERROR_LOG", 10)
    assert front._bound_error_log() is False
    log = front.directory / ERRORS
    log.write_bytes(b"x" * 10)
    assert front._bound_error_log() is False
    log.write_bytes(b"x" * 11)
    assert front._bound_error_log() is True
    assert (log.exists(), log.with_name(f"{ERRORS}.1").stat().st_size) == (False, 11)


@pytest.mark.parametrize(
    ("running", "own", "left"),
    [([10, 11], 10, {"1"}), ([11], 10, {"1", "2"}), ([11], None, {"1", "2"}), ([], None, {"1", "2"})],
)
def test_abandoned_bodies_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: list[int], own: int | None, left: set[str]
) -> None:
    """A body that no process of nginx has open is removed, once nginx is seen to run."""
    front = _front(tmp_path)
    front.remove_abandoned()  # there is no spool yet
    front.spool.make()
    front.remove_abandoned()
    for name in ("1", "2"):
        (front.spool.bodies / name).touch()
    monkeypatch.setattr(nginx_processes, "running_in", lambda *_: iter(running))
    monkeypatch.setattr(nginx_processes, "open_files", lambda pid: {"/spool/bodies/1"} if pid == 11 else {"/dev/null"})
    front._process = None if own is None else cast("Any", SimpleNamespace(pid=own, returncode=None))
    front.remove_abandoned()
    assert front.spool.names() == left


@pytest.mark.parametrize("length", [10, 180])
def test_a_unix_socket_of_any_length(tmp_path: Path, length: int) -> None:
    """A socket is made for this user in a directory with any path, in the place of one left by an earlier run."""
    path = tmp_path / ("d" * length) / "socket"
    path.parent.mkdir()
    for _ in range(2):
        listening = listen_unix(path)
        assert path.is_socket()
        assert path.stat().st_mode & 0o777 == 0o600
        assert not listening.getblocking()
        listening.close()
    path.unlink()
    path.write_bytes(b"kept")
    with pytest.raises(OSError, match="in use"):
        listen_unix(path)
    assert path.read_bytes() == b"kept"


def test_addresses_in_the_configuration(tmp_path: Path) -> None:
    """Addresses are written as nginx writes them, and a wildcard is asked at the loopback address."""
    with listen_unix(tmp_path / "s") as listening:
        assert nginx._shown(listening) == f"unix:{tmp_path}/s"
    for family, host, shown in ((socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")):
        with socket.create_server((host, 0), family=family) as listening:
            assert nginx._shown(listening) == f"{shown}:{listening.getsockname()[1]}"
    assert [nginx._reachable(host) for host in ("0.0.0.0", "::", "10.0.0.1")] == ["127.0.0.1", "::1", "10.0.0.1"]


def test_the_system_s_nginx(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The installed nginx is found also outside of PATH's usual directories; without one there is an advice."""
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "nginx").touch(0o755)
    assert nginx.system() == tmp_path / "nginx"
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ConfigurationError, match="not installed"):
        nginx.system()


def test_processes_of_another_directory_are_left_alone(tmp_path: Path) -> None:
    """Only other processes of the same program and working directory are found; this one is not."""
    program = Path("/proc/self/exe").readlink().name
    assert list(nginx_processes.running_in(tmp_path, program)) == []
    assert os.getpid() not in nginx_processes.running_in(Path.cwd(), program)
    opened = tmp_path / "opened"
    with opened.open("w"):
        assert str(opened) in nginx_processes.open_files(os.getpid())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("configure arguments: --add-module=headers-more", True),
        ("configure arguments: --with-debug", False),
    ],
)
def test_modules_are_asked_for(tmp_path: Path, said: str, expected: bool) -> None:
    """nginx is asked with -V what it was built with; one that cannot be run has no features."""
    binary = tmp_path / "nginx"
    binary.write_text(f'#!/bin/sh\n[ "$*" = -V ] && echo "{said}" >&2\n')
    binary.chmod(0o755)
    assert nginx.features_of(binary).clears_fields is expected
    assert nginx.features_of(tmp_path / "missing").clears_fields is False
