"""`tawara explain`, `status` and `simulate` against a real store, as a person or a script calls them."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from tawara import cli
from tawara.client import Client
from tawara.node import disk_health, usage
from tests.acceptance.cluster import Cluster, run
from tests.smartctl import reports


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A store of two hosts with workers, which the commands find by TAWARA_TRACKERS."""
    with run(tmp_path_factory.mktemp("store"), workers=True) as started:
        monkeypatch.setenv("TAWARA_TRACKERS", started.trackers)
        yield started


Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Iterator[Said]:
    """Runs a command line; what it printed, but for the log of the store in this process, which is kept silent.

    The exit code is as expected, None for any.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    def run_it(*words: str, code: int | None = 0) -> str:
        capsys.readouterr()
        ended = cli.main([*words])
        printed = capsys.readouterr()
        assert code in (None, ended), printed
        return printed.out

    yield run_it
    structlog.reset_defaults()


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until a condition holds; fails when it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_explain(store: Cluster, said: Said) -> None:
    """A file is explained from its storing to the last of its bytes, in words and as JSON, with an exit code."""
    with Client(store.trackers) as client:
        fid = client.put("d", "cat", b"a body").fid
        until(lambda: client.info("d", "cat").copies == 2)
        until(lambda: "satisfied" in said("explain", "d/cat", "--json"))
        text = said("explain", "d/cat")
        assert f"d/cat is fid {fid}, 6 bytes, stored" in text
        assert "there, with the right size; needed, the only copy on h1" in text
        assert "Class default wants 2 copies on different hosts (MultipleHosts())" in text
        assert "In the way" not in text
        store.replicas(fid)[0].unlink()
        text = said("explain", "d/cat", code=1)
        assert "! " in text
        assert "the storage node has no such file" in text
        assert "as far as the database knows" in said("explain", "d/cat", "--no-verify")
        client.delete("d", "cat")
        (told,) = map(json.loads, said("explain", "d/cat", "--json").splitlines())
        assert (told["fid"], told["verdict"]) == (fid, "deleted")
        until(lambda: "No bytes of it are known to be left" in said("explain", "d/cat"))
        assert not store.replicas(fid)
    assert "no trace" in said("explain", "d/dog", code=3)
    assert "no trace" in said("explain", "--fid", "999", code=3)
    said("explain", code=2)


def test_explain_what_stands_in_the_way(store: Cluster, said: Said) -> None:
    """A file that lacks a copy names each device that could not take it, and why; the last reason is remembered."""
    said("host", "change", "h2", "--state", "readonly")
    said("device", "change", "2", "--state", "readonly")
    with Client(store.trackers) as client:
        client.put("d", "cat", b"a body")
    until(lambda: "last reason" in said("explain", "d/cat", code=1))
    text = said("explain", "d/cat", code=1)
    assert "the device is set to readonly" in text
    assert "dev3 on h2, dev4 on h2: host h2 is set to readonly" in text
    assert "To be copied or trimmed: tried again in" in text


def _status(said: Said, *words: str, code: int = 0) -> dict[str, object]:
    (line,) = said("status", "--json", *words, code=code).splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def test_status(store: Cluster, said: Said) -> None:
    """The files one failure from loss are counted as copies come and devices go, beside the queues and the rates."""
    with Client(store.trackers) as client:
        for number in range(20):
            client.put("d", f"k{number}", b"a body", storage_class="default" if number < 15 else "one")
        until(lambda: all(client.info("d", f"k{number}").copies == 2 for number in range(15)))

    def files() -> dict[str, object]:
        return _status(said)["files"]  # type: ignore[return-value]

    until(lambda: files()["one_failure_from_loss"] == 5)
    assert files()["one_device_wanted"] == {"files": 5, "bytes": 30}
    text = said("status")
    assert text.startswith("5 of 20 files one failure from loss, 5 of them because their class wants no more.\n")
    assert "1 process of workers." in text
    assert text.endswith("All is well.\n")
    found = _status(said)
    assert found["worker_processes"] == 1
    names = [each["name"] for each in found["queues"]]  # type: ignore[attr-defined]
    assert names == ["replicate", "delete", "check", "move", "scrub", "drain", "upload", "copy"]
    said("host", "change", "h2", "--state", "down")
    until(lambda: _status(said, code=1)["files"]["one_failure_from_loss"] >= 15)  # type: ignore[index]
    problems = _status(said, code=1)["problems"]
    assert "Host h2 is down" in problems  # type: ignore[operator]
    assert any("one failing device from loss" in each for each in problems)  # type: ignore[attr-defined]
    said("host", "change", "h2", "--state", "alive")
    until(lambda: files()["one_failure_from_loss"] == 5)


def test_rates_are_told(store: Cluster, said: Said) -> None:
    """What the workers have done shows in the status, with what they are capable of."""
    with Client(store.trackers) as client:
        for number in range(10):
            client.put("d", f"k{number}", b"a body")

    def replicated() -> object:
        work = {each["name"]: each for each in _status(said)["work"]}  # type: ignore[attr-defined]
        return work.get("replicate", {}).get("capacity")

    until(replicated, 60)


def test_simulate(store: Cluster, said: Said) -> None:
    """What losing a host or a device would mean is told in words, as JSON and by the exit code, and nothing changes."""
    with Client(store.trackers) as client:
        for number in range(12):
            client.put("d", f"k{number}", b"a body", storage_class="default" if number < 8 else "one")
        until(lambda: all(client.info("d", f"k{number}").copies == 2 for number in range(8)))
    single = sum(1 for path in store.directory.glob("h1/dev*/**/*.fid"))
    until(lambda: _status(said)["files"]["one_failure_from_loss"] == 4)  # type: ignore[index]
    lost = single - 8
    (line,) = said("simulate", "--lose", "h1", "--rate", "2", "--json", code=7 if lost else 0).splitlines()
    told = json.loads(line)
    assert told["lost_devices"] == [1, 2]
    assert told["lost"]["files"] == lost
    assert (told["copies"], told["bytes"]) == (8, 8 * 6)
    assert told["repair_seconds"] == 4
    assert told["compromised"]["files"] == 8
    assert told["one_failure_from_loss"] == {"before": 4, "after": 12 - lost, "repaired": 4 - lost}
    text = said("simulate", "--lose", "h1", "--rate", "2", code=7 if lost else 0)
    assert "The repair would take about 4 seconds at 2 copies a second: 8 copies." in text
    assert "would not be spread as their class wishes" in text
    said("simulate", "--lose", "dev9", code=3)
    said("simulate", code=2)
    everything = said("simulate", "--lose", "h1,h2", code=7)
    assert "12 files (72 B) would be lost for ever." in everything
    assert "All is well." in said("status")


def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """A failing disk is told of, and drained when the setting says so; MogileFS's clients see what they always saw."""
    reports.program(tmp_path / "bin", reports.nvme())
    failing = reports.program(tmp_path / "failing", reports.sata(passed=False, reallocated=4000, failed="now"))
    (tmp_path / "bin" / "smartctl").write_text(f'#!/bin/sh\n[ "$4" = /dev/sdb ] && exec {failing} "$@"\n'
                                               f"cat {tmp_path}/bin/report.json\n")  # fmt: skip
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(disk_health, "_disks_of", lambda place: ["sdb" if place.name == "dev3" else "sda"])
    monkeypatch.setattr(usage, "PERIOD", 0.5)
    (tmp_path / "store").mkdir()
    with run(tmp_path / "store", workers=True) as store:
        monkeypatch.setenv("TAWARA_TRACKERS", store.trackers)
        until(lambda: "failing" in said("status", code=None))
        text = said("status", code=1)
        assert "The disk of dev3 on h2 is failing: Reallocated Sector Ct is at 5, below its threshold of 10." in text
        until(lambda: said("device", "list").count("ok 41°C") == 3)
        (line,) = [each for each in said("device", "list", "--json").splitlines() if json.loads(each)["devid"] == 3]
        assert json.loads(line)["health"]["temperature"] == 38
        assert json.loads(line)["state"] == "alive", "drained without being told"
        said("settings", "set", "tawara_drain_failing", "1")
        until(lambda: "drain" in said("device", "list"), 60)
        states = {
            json.loads(each)["devid"]: json.loads(each)["state"]
            for each in said("device", "list", "--json").splitlines()
        }
        assert states == {1: "alive", 2: "alive", 3: "drain", 4: "alive"}


def test_dry_runs(store: Cluster, said: Said) -> None:
    """What would be removed is said, or why not, with the exit code that the removal has; nothing is removed by it."""
    with Client(store.trackers) as client:
        client.put("d", "cat", b"a body")
    assert "has 1 file, for example 'cat'" in said("domain", "remove", "d", "--dry-run", code=4)
    (told,) = map(json.loads, said("class", "remove", "d", "md5", "-n", "--json").splitlines())
    assert (told["refused"], told["class"]) == (None, "md5")
    assert "dev1 (alive) and dev2 (alive)" in said("host", "remove", "h1", "--dry-run", code=4)
    assert "only a device that is dead is removed" in said("device", "remove", "1", "--dry-run", code=4)
    assert "nothing would be removed" in said("settings", "remove", "skip_mkcol", "--dry-run")
    assert "one failure from loss" in said("device", "change", "1", "--state", "dead", "--dry-run", code=None)
    assert "it would be read last" in said("device", "change", "1", "--state", "drain", "--dry-run")
    assert said("class", "list").count("md5") == 1
    assert '"state": "dead"' not in said("device", "list", "--json")
    said("domain", "remove", "d", code=4)
    said("device", "remove", "1", code=4)
    said("settings", "set", "skip_mkcol", "1")
    said("settings", "remove", "skip_mkcol")
    assert said("settings", "get", "skip_mkcol") == "\n"
    said("device", "add", "9", "--host", "h1")
    said("device", "change", "9", "--state", "dead")
    assert "would be removed" in said("device", "remove", "9", "--dry-run")
    said("device", "remove", "9")
    assert '"devid": 9' not in said("device", "list", "--json")
