"""Hosts fail and return without any action of an operator: real daemons on one database."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tawara.client import Client
from tests.acceptance.daemons import DOMAIN, SeparateDaemons, separate_daemons
from tests.acceptance.store import TAWARA

FILES = 30
TIMEOUT = 150.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SeparateDaemons]:
    """Four hosts, a tracker and workers, and files with two copies."""
    with separate_daemons(tmp_path, f"sqlite://{tmp_path}/tawara.db", nodes=4, processes=1) as started:
        with (tmp_path / "tawara.toml").open("a") as configuration:
            configuration.write("[care]\npresume_dead = 8\n")
        del started.daemons["gateway"]
        for name in ("tracker", "node1", "node2", "node3", "node4"):
            started.daemons[name].start()
        started.describe()
        started.daemons["workers"].start()
        with Client(started.tracker) as client:
            for number in range(FILES):
                client.put(DOMAIN, f"k{number}", b"content %d" % number)
        until(lambda: set(copies(started).values()) == {2} and len(copies(started)) == FILES)
        yield started


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def copies(store: SeparateDaemons, *, but: int = 0) -> Counter[str]:
    """The number of copies of each fid on the disks, except those of one host."""
    hosts = [number for number in range(1, store.nodes + 1) if number != but]
    return Counter(path.name for number in hosts for path in store.directory.glob(f"h{number}/dev*/[0-9]/*/*/*.fid"))


def status(store: SeparateDaemons) -> dict[str, Any]:
    """The report of `tawara status`; its exit code must signal a problem."""
    command = [*TAWARA, "status", "--json"]
    environment = {**os.environ, "TAWARA_TRACKERS": store.tracker}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def liveness_of(store: SeparateDaemons) -> dict[int, str]:
    """The liveness of each absent device."""
    return {each["devid"]: each["liveness"] for each in status(store)["absences"]}


@pytest.mark.timeout(600)
def test_a_node_dies_and_returns(store: SeparateDaemons) -> None:
    """A killed node's files are replicated again; when it returns, the surplus copies are removed."""
    affected = set(copies(store)) - {name for name, count in copies(store, but=1).items() if count == 2}
    assert affected
    store.daemons["node1"].kill()
    until(lambda: set(copies(store, but=1).values()) == {2} and len(copies(store, but=1)) == FILES)
    until(lambda: liveness_of(store) == dict.fromkeys((1, 2), "presumed dead"))  # a slow machine may miss others, too
    told = status(store)
    assert any("presumed dead" in problem and "trust" in problem for problem in told["problems"])
    assert {device["devid"]: device["state"] for device in told["devices"]}[1] == "alive"
    until(lambda: sum(copies(store).values()) == 2 * FILES + len(affected))
    with Client(store.tracker) as client:
        assert all(client.get(DOMAIN, f"k{number}") == b"content %d" % number for number in range(FILES))
    store.daemons["node1"].start()
    until(lambda: set(copies(store).values()) == {2} and not liveness_of(store))
    with Client(store.tracker) as client:
        assert all(client.get(DOMAIN, f"k{number}") == b"content %d" % number for number in range(FILES))


@pytest.mark.timeout(600)
def test_most_nodes_die_at_once(store: SeparateDaemons) -> None:
    """When two of four hosts fail together nothing is copied and status says why; when one returns, copying starts."""
    before = copies(store)
    for name in ("node1", "node2"):
        store.daemons[name].kill()
    until(lambda: len(liveness_of(store)) == 4)
    until(lambda: all(each["seconds"] == 8 for each in status(store)["absences"]))
    told = status(store)
    assert {each["liveness"] for each in told["absences"]} == {"suspect"}
    assert "2 of 4 hosts" in told["brake"]
    assert any(told["brake"] in problem for problem in told["problems"])
    store.daemons["node3"].kill()
    until(lambda: "that is most of them" in status(store)["brake"])
    store.daemons["node3"].start()
    assert copies(store) == before
    store.daemons["node2"].start()
    until(lambda: set(copies(store, but=1).values()) == {2} and len(copies(store, but=1)) == FILES)
    store.run("host", "trust", "h1")
    assert liveness_of(store) == {1: "trusted", 2: "trusted"}


@pytest.mark.timeout(600)
def test_a_mount_point_without_its_disk(store: SeparateDaemons) -> None:
    """Without its disk, nothing is written to a device's mount point, status says why, and the files are copied."""
    device = store.directory / "h1" / "dev1"
    device.rename(device.with_name("away"))
    device.mkdir()
    until(lambda: len(copies(store)) == FILES and set(copies(store).values()) == {2})
    until(lambda: liveness_of(store) == {1: "presumed dead"})
    told = status(store)
    assert any("dev1" in problem and "is its disk mounted?" in problem for problem in told["problems"])
    with Client(store.tracker) as client:
        for number in range(FILES):
            client.put(DOMAIN, f"later{number}", b"later")
    assert list(device.iterdir()) == []
    device.rmdir()
    device.with_name("away").rename(device)
    until(lambda: not liveness_of(store))
    until(lambda: len(copies(store)) == 2 * FILES and set(copies(store).values()) == {2})
    assert not [problem for problem in status(store)["problems"] if "dev1" in problem]
