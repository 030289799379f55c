"""How components follow from the configuration, without starting any."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

from tawara.cli import assembly
from tawara.cli.assembly import GATEWAY, MONITORING, NODE, S3, SIDE_CHANNEL, TRACKER, WEBDAV, Component
from tawara.cli.configuration import Configuration, load
from tawara.model.errors import ConfigurationError


def _configuration(tmp_path: Path, **fields: object) -> Configuration:
    """A configuration with these fields, as section__field."""
    settings = [f"{name.replace('__', '.')}={value}" for name, value in fields.items()]
    (tmp_path / "tawara.toml").write_text("")
    return load(tmp_path / "tawara.toml", environment={}, settings=settings)


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:tawara.db", "sqlite:{0}/tawara.db"),
        ("sqlite:///var/lib/tawara.db", "sqlite:///var/lib/tawara.db"),
        ("postgresql://tawara@db/tawara", "postgresql://tawara@db/tawara"),
        ("mysql:relative", "mysql:relative"),
    ],
)
def test_a_relative_database_file_is_in_the_stores_directory(tmp_path: Path, url: str, resolved: str) -> None:
    """Only the relative path of a SQLite file is resolved."""
    configuration = _configuration(tmp_path, store__database=url)
    assert assembly.database_url(configuration, tmp_path) == resolved.format(tmp_path)


@pytest.mark.parametrize(
    ("component", "fields", "listeners"),
    [
        (Component.TRACKER, {"tracker__listen": "127.0.0.1:7"}, {TRACKER: ("127.0.0.1", 7)}),
        (
            Component.NODE,
            {"node__listen": "127.0.0.1:8", "node__side_channel": "127.0.0.1:9"},
            {NODE: ("127.0.0.1", 8), SIDE_CHANNEL: ("127.0.0.1", 9)},
        ),
        (Component.NODE, {"node__listen": "127.0.0.1:8", "node__side_channel": ""}, {NODE: ("127.0.0.1", 8)}),
        (Component.NODE, {"node__listen": "", "node__side_channel": "h:9"}, {SIDE_CHANNEL: ("h", 9)}),
        (Component.WORKERS, {}, {}),
        (Component.GATEWAY, {}, {}),
    ],
)
def test_listeners_that_can_share_a_port(
    tmp_path: Path, component: Component, fields: dict[str, str], listeners: dict[str, tuple[str, int]]
) -> None:
    """Each configured listener of a component has its address; an empty one is left out."""
    assert assembly.wanted_addresses(_configuration(tmp_path, **fields), component) == listeners


@pytest.mark.parametrize(
    ("fields", "protocols"),
    [
        ({"s3__listen": "", "dav__listen": ""}, []),
        ({"s3__listen": "127.0.0.1:1", "dav__listen": ""}, [S3]),
        ({"s3__listen": "127.0.0.1:1", "dav__listen": "127.0.0.1:2"}, [S3, WEBDAV]),
    ],
)
def test_protocols_that_are_served(tmp_path: Path, fields: dict[str, str], protocols: list[str]) -> None:
    """S3 and WebDAV are served where they have an address, and count as listeners of the gateway only."""
    configuration = _configuration(tmp_path, **fields)
    assert list(assembly._protocols(configuration)) == protocols
    assert assembly._listeners(configuration, Component.GATEWAY) == 1 + len(protocols)
    assert assembly._listeners(configuration, Component.NODE) == 2
    assert assembly._listeners(configuration, Component.WORKERS) == 0


@pytest.mark.parametrize(
    ("fields", "process", "readers"),
    [
        ({"gateway__processes": 3, "store__read_connections": 9}, 0, 9),
        ({"gateway__processes": 3, "store__read_connections": 9}, 1, 3),
        ({"gateway__processes": 4, "store__read_connections": 3}, 1, 1),
        ({"gateway__processes": 3, "store__read_connections": 9, "gateway__nginx": "off"}, 1, 9),
    ],
)
def test_processes_of_a_gateway_share_its_connections(
    tmp_path: Path, fields: dict[str, object], process: int, readers: int
) -> None:
    """The processes behind nginx divide the connections of one, at least one each; process 0 only runs nginx."""
    configuration = _configuration(tmp_path, **fields)
    part = assembly.gateway_process(configuration, process)
    assert (part is None) == (configuration.gateway.nginx == "off")
    assert assembly._connections(configuration, part).readers == readers


@pytest.mark.parametrize(("hosts", "named"), [("", []), (" ", []), ("one", ["one"]), ("one, two,", ["one", "two"])])
def test_beside_mogilefsd(tmp_path: Path, hosts: str, named: list[str]) -> None:
    """Host names are separated by commas; beside a mogilefsd no device is presumed dead."""
    configuration = _configuration(tmp_path, store__beside_mogilefsd=hosts, care__presume_dead=77)
    assert assembly._hosts_of_mogilefsd(configuration) == named
    assert assembly._rules(configuration).after == (0 if hosts else 77)


@pytest.mark.parametrize(
    ("certificate", "key", "outcome"),
    [("", "", "none"), ("c", "k", "both"), ("c", "", "refused"), ("", "k", "refused")],
)
def test_tls_needs_both_files(tmp_path: Path, certificate: str, key: str, outcome: str) -> None:
    """TLS is on with a certificate and its key, off without both, and with one of them an error."""
    configuration = _configuration(tmp_path, gateway__tls_certificate=certificate, gateway__tls_key=key)
    if outcome == "refused":
        with pytest.raises(ConfigurationError, match="both"):
            assembly._tls(configuration, tmp_path)
    else:
        assert (assembly._tls(configuration, tmp_path) is None) == (outcome == "none")


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"0123456789abcdef\n", ""), (b" 0123456789abcde\n", "shorter"), (b"\xff" * 20, "not text"), (None, "be read")],
)
def test_the_secret_of_a_gateway(tmp_path: Path, content: bytes | None, problem: str) -> None:
    """A secret has at least 16 characters of UTF-8 without white space around them."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    if problem:
        with pytest.raises(ConfigurationError, match=problem):
            assembly._secret(path)
    else:
        assert assembly._secret(path) == "0123456789abcdef"


@pytest.mark.parametrize(("sign", "required"), [(False, "none"), (True, "all")])
def test_signatures_need_a_key_file(tmp_path: Path, sign: bool, required: str) -> None:
    """Without signatures no key file is read; with them a missing one is an error."""
    configuration = _configuration(tmp_path, store__sign_urls=str(sign).lower(), node__require_signatures=required)
    for make in (assembly.make_signer, assembly._signature_check):
        with pytest.raises(ConfigurationError) if sign else contextlib.nullcontext():
            assert make(configuration, tmp_path) is None


def test_where_a_gateway_reads_local_files(tmp_path: Path) -> None:
    """A gateway process reads the devices of its machine if their directory exists."""
    store = assembly.Running(_configuration(tmp_path, node__devices="devices"), tmp_path)
    assert assembly._devices_to_read(store) is None
    (tmp_path / "devices").mkdir()
    found = assembly._devices_to_read(store)
    assert found is not None
    assert found.docroot == tmp_path / "devices"


def test_processes_without_monitoring(tmp_path: Path) -> None:
    """Without an address for monitoring the processes keep their sockets, and none finds another."""
    shares: list[dict[str, socket.socket]] = [{}, {}]
    configuration = _configuration(tmp_path, monitoring__tracker="")
    assert assembly.share_monitoring(configuration, Component.TRACKER, shares) == (shares, [None, None])


@pytest.mark.parametrize("only_first", [False, True])
def test_processes_with_monitoring(tmp_path: Path, only_first: bool) -> None:
    """Each process gets a socket of the monitoring address, unless only the first listens, and finds all others."""
    configuration = _configuration(tmp_path, monitoring__gateway="127.0.0.1:0")
    shares, groups = assembly.share_monitoring(configuration, Component.GATEWAY, [{}, {}], only_first=only_first)
    with contextlib.ExitStack() as stack:
        for each in (*shares[0].values(), *shares[1].values()):
            stack.callback(each.close)
        for group in groups:
            assert group is not None
            stack.callback(group.listening.close)
        assert [list(each) for each in shares] == ([[], []] if only_first else [[MONITORING], [MONITORING]])
        assert [(group.number, len(group.names)) for group in groups if group] == [(0, 2), (1, 2)]


@pytest.mark.parametrize(("seconds", "hurry", "waited"), [(0, False, []), (5, False, [5]), (5, True, [5])])
async def test_a_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int, hurry: bool, waited: list[float]
) -> None:
    """A draining process reports that it is not ready, and serves for the configured time unless told to hurry."""
    store = assembly.Running(_configuration(tmp_path, monitoring__drain_seconds=seconds), tmp_path)
    asked: list[float] = []

    async def wait_for(waiting: Any, timeout: float) -> None:
        asked.append(timeout)
        waiting.close()
        if not hurry:
            raise TimeoutError

    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    stopping = [store.monitored.readiness.stopping]
    await store.drain(asyncio.Event())
    stopping.append(store.monitored.readiness.stopping)
    assert stopping == [False, True]
    assert asked == waited
    assert assembly.without_drain(store.configuration).monitoring.drain_seconds == 0


def test_shown_addresses() -> None:
    """An address is shown as it is written in a URL."""
    assert assembly._shown(("127.0.0.1", 7)) == "127.0.0.1:7"
    assert assembly._shown(("::1", 7)) == "[::1]:7"
    assert GATEWAY == "gateway"
