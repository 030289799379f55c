"""nginx's configuration, and the response fields for it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tawara.gateway.acceleration import ReplicaLocation, redirect
from tawara.gateway.nginx import _SET_FIELDS, bundled
from tawara.gateway.nginx_configuration import render
from tawara.gateway.nginx_parameters import SCRIPT, Listener, NginxConfiguration, NginxFeatures
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.reading import decide
from tawara.model.applications import number_applications
from tawara.model.cache_settings import CacheSettings
from tawara.model.files import StoredFile
from tawara.model.limits import REPLICAS_TRIED
from tawara.wire.http import Conditions
from tests.certificates import write_pair

CONFIGURATION = NginxConfiguration(
    listeners=[Listener("127.0.0.1:8080")],
    as_root=os.geteuid() == 0,
    workers=1,
    connections=128,
    header=16384,
    headers=65536,
    header_time=20.0,
    stalled_body=60.0,
    node_connect=2.0,
    node_answer=10.0,
    upload=1 << 40,
)
FILE = StoredFile(7, 1, b"k.txt", 10, 0, 1, (1,), 1_000_000)


LISTENERS = {
    "IPv4": [Listener("127.0.0.1:8080")],
    "IPv6": [Listener("[::1]:8080")],
    "unix": [Listener("unix:/tmp/a b\"c';{d.sock")],
    "tls": [Listener("127.0.0.1:8080", tls=True)],
    "all": [Listener(f"127.0.0.1:808{port}", each, tls=True) for port, each in enumerate(ListenerProtocol)],
}


@pytest.mark.parametrize(
    "features",
    [NginxFeatures(), NginxFeatures(clears_fields=True, http2=True, scripts=True)],
    ids=["plain", "bundled"],
)
@pytest.mark.parametrize("listeners", LISTENERS.values(), ids=LISTENERS)
def test_nginx_accepts_it(tmp_path: Path, listeners: list[Listener], features: NginxFeatures) -> None:
    """`nginx -t` accepts the configuration for any address, in a directory with any name."""
    directory = tmp_path / "a 'b' \"c\" $d;{"
    (directory / "temporary").mkdir(parents=True)
    write_pair(directory, "tls")
    (directory / SCRIPT).write_text(_SET_FIELDS)
    (directory / "nginx.conf").write_text(render(replace(CONFIGURATION, listeners=listeners, features=features)))
    command = [str(bundled()), "-t", "-p", "./", "-e", "error.log", "-c", "nginx.conf"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.parametrize("tls", [False, True], ids=["http", "tls"])
@pytest.mark.parametrize(
    "features", [NginxFeatures(), NginxFeatures(clears_fields=True, http2=True)], ids=["plain", "headers-more"]
)
def test_nginx_accepts_applications(tmp_path: Path, features: NginxFeatures, tls: bool) -> None:
    """`nginx -t` accepts applications at host names and paths, with every form of upstream, and a shared cache."""
    (tmp_path / "temporary").mkdir()
    write_pair(tmp_path, "tls")
    upstreams = {
        "a.example": "127.0.0.1:1",
        "/b/": "[::1]:2",
        "c.example": "unix:/run/a@b-c.sock",
        "/d/e": "localhost:3",
    }
    applications = number_applications([(at, upstream, ["*"], False) for at, upstream in upstreams.items()])
    listeners = [Listener("127.0.0.1:8080", tls=tls), Listener("127.0.0.1:8081", ListenerProtocol.S3)]
    peers = ["127.0.0.1:7083", "[::1]:7083"]
    cache = CacheSettings(size=1 << 30, file=1 << 24, listen=peers[1], peers=peers, secret="a" * 64)
    changed = replace(CONFIGURATION, listeners=listeners, features=features, applications=applications, cache=cache)
    (tmp_path / "nginx.conf").write_text(render(changed))
    command = [str(bundled()), "-t", "-p", "./", "-e", "error.log", "-c", "nginx.conf"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_every_replica_is_named() -> None:
    """The first replica is the redirect target, each later one is in a field, and the last is followed by the end
    mark."""
    answer = decide(FILE, Conditions(), None, head=False)
    told = redirect(answer, [ReplicaLocation("/dev1/a", None), ReplicaLocation("/dev2/a", "10.0.0.2:7500")])
    assert (told["X-Accel-Redirect"], told["X-Tawara-Device"]) == ("/.tawara/whole/1/dev1/a", "dev1")
    assert (told["X-Tawara-Place-2"], told["X-Tawara-Place-3"]) == ("@remote_2", "@exhausted")
    assert told["X-Tawara-Url-2"] == "http://10.0.0.2:7500/dev2/a"
    assert "X-Tawara-Range" not in told


@pytest.mark.parametrize(
    ("asked", "conditions", "place", "range_field"),
    [
        ("bytes=2-4", Conditions(), "/.tawara/part/1/dev1/a", "bytes=2-4"),
        ("bytes=-3", Conditions(), "/.tawara/part/1/dev1/a", "bytes=7-9"),
        ("bytes=2-4", Conditions(if_range='"other"'), "/.tawara/whole/1/dev1/a", ""),
        ("bytes=1-2,4-5", Conditions(), "/.tawara/whole/1/dev1/a", ""),
        ("lines=1", Conditions(), "/.tawara/whole/1/dev1/a", ""),
    ],
)
def test_ranges_are_normalized(asked: str, conditions: Conditions, place: str, range_field: str) -> None:
    """Without a range of ours nginx sees none; storage nodes get it in plain form."""
    answer = decide(FILE, conditions, asked, head=False)
    told = redirect(answer, [ReplicaLocation("/dev1/a", None)])
    assert (told["X-Accel-Redirect"], told.get("X-Tawara-Range", "")) == (place, range_field)


def test_at_most_the_replicas_that_nginx_tries() -> None:
    """Only as many replicas as nginx tries are named; inside nginx there is one more location."""
    answer = decide(FILE, Conditions(), None, head=False)
    told = redirect(answer, [ReplicaLocation("/dev1/a", None)] * REPLICAS_TRIED)
    assert f"X-Tawara-Place-{REPLICAS_TRIED}" in told
    assert f"X-Tawara-Place-{REPLICAS_TRIED + 1}" not in told
