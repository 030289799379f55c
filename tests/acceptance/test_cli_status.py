"""`tawara explain`, `status` and `simulate` against a real store, as an operator or a script calls them."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tawara import cli
from tawara.client import Client
from tawara.disks import disk_health
from tawara.node import usage
from tests.acceptance.cluster import Cluster, run
from tests.smartctl import reports


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A store of two hosts with workers, which the commands find by TAWARA_TRACKERS."""
    with run(tmp_path_factory.mktemp("store"), workers=True) as started:
        monkeypatch.setenv("TAWARA_TRACKERS", started.trackers)
        yield started


class Said:
    """Runs command lines and records their output. A busy machine may miss a device for a moment: a result that depends
    on that is requested again until it is as expected."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def run(self, *words: str) -> tuple[int, str]:
        """The exit code and the standard output."""
        self._capsys.readouterr()
        code = cli.main([*words])
        return code, self._capsys.readouterr().out

    def __call__(self, *words: str, code: int = 0) -> str:
        """The output; the exit code must be this one."""
        ended, printed = self.run(*words)
        assert ended == code, printed
        return printed

    def finally_(self, *words: str, code: int = 0, has: str = "") -> str:
        """The output, once the exit code is this one and the text contains these words."""
        printed = ""

        def as_expected() -> bool:
            nonlocal printed
            ended, printed = self.run(*words)
            return ended == code and has in printed

        until(as_expected, what=lambda: printed)
        return printed

    def status(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The status as JSON, once this condition holds for it."""
        found: dict[str, Any] = {}

        def as_expected() -> bool:
            found.update(json.loads(self.run("status", "--json")[1]))
            return true(found)

        until(as_expected, what=lambda: found)
        return found


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """See `Said`."""
    return Said(capsys)


@pytest.fixture
def disks_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no two devices report the same disk, as those of a test do."""
    monkeypatch.setattr(usage, "running_kernel", lambda: secrets.token_hex(8))


def until(condition: Callable[[], object], seconds: float = 60.0, what: Callable[[], object] = str) -> None:
    """Wait until a condition holds; on a timeout fail with the last result."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


def test_explain(store: Cluster, said: Said) -> None:
    """A file is explained from its upload to its last data, as text and JSON, with an exit code."""
    with Client(store.trackers) as client:
        fid = client.put("d", "cat", b"a body").fid
        text = said.finally_("explain", "d/cat", has="that satisfies it")
        assert f"d/cat is fid {fid}, 6 bytes, stored" in text
        assert "there, with the right size; needed, the only copy on h1" in text
        assert "Class default wants 2 copies on different hosts (MultipleHosts())" in text
        assert "Blocked by" not in text
        store.replicas(fid)[0].unlink()
        assert "! " in said.finally_("explain", "d/cat", code=1, has="the storage node has no such file")
        said.finally_("explain", "d/cat", "--no-verify", has="as far as the database knows")
        client.delete("d", "cat")
        (told,) = map(json.loads, said("explain", "d/cat", "--json").splitlines())
        assert (told["fid"], told["verdict"]) == (fid, "deleted")
        said.finally_("explain", "d/cat", has="No bytes of it are known to be left")
        assert not store.replicas(fid)
    assert "no trace" in said("explain", "d/dog", code=3)
    assert "no trace" in said("explain", "--fid", "999", code=3)
    said("explain", code=2)


def test_explain_obstacles(store: Cluster, said: Said) -> None:
    """A file that lacks a copy names each device that cannot take it, and why; the last reason is stored."""
    said("host", "change", "h2", "--state", "readonly")
    said("device", "change", "2", "--state", "readonly")
    with Client(store.trackers) as client:
        client.put("d", "cat", b"a body")
    said.finally_("explain", "d/cat", code=1, has="last reason")
    text = said("explain", "d/cat", code=1)
    assert "dev2 on h1: the device is set to readonly" in text
    assert "dev3 on h2, dev4 on h2: host h2 is set to readonly" in text
    said.finally_("explain", "d/cat", code=1, has="To be copied or trimmed: tried again in")


def _fill(store: Cluster, pairs: int, single: int) -> None:
    """Store files with two copies and with one, and wait for the copies."""
    with Client(store.trackers) as client:
        for number in range(pairs + single):
            client.put("d", f"k{number}", b"a body", storage_class="default" if number < pairs else "one")
        until(lambda: all(client.info("d", f"k{number}").copies == 2 for number in range(pairs)))


def test_status(disks_apart: None, store: Cluster, said: Said) -> None:
    """Files one failure from loss are counted as copies are made and devices fail, with the queues and the rates."""
    _fill(store, 15, 5)
    found = said.status(lambda told: told["files"]["one_failure_from_loss"] == 5 and not told["problems"])
    assert found["files"]["one_device_wanted"] == {"files": 5, "bytes": 30}
    assert found["worker_processes"] == 1
    names = [each["name"] for each in found["queues"]]
    assert names == ["replicate", "delete", "check", "move", "scrub", "drain", "upload", "copy"]
    text = said.finally_("status", has="All is well.\n")
    assert text.startswith("5 of 20 files one failure from loss, 5 of them because their class wants no more.\n")
    assert "1 process of workers." in text
    said("host", "change", "h2", "--state", "down")
    found = said.status(
        lambda told: told["files"]["one_failure_from_loss"] >= 15 and "Host h2 is down" in told["problems"]
    )
    assert any("one failing device from loss" in each for each in found["problems"])
    said("host", "change", "h2", "--state", "alive")
    said.status(lambda told: told["files"]["one_failure_from_loss"] == 5)


def test_devices_on_one_disk(store: Cluster, said: Said) -> None:
    """Copies on several devices of one disk are one failure from loss, and its space is counted once; the status says
    so."""
    _fill(store, 3, 0)
    said.status(lambda told: told["files"]["one_failure_from_loss"] == 3)
    text = said.finally_("status", has="All is well.\n")
    assert text.startswith("3 of 3 files one failure from loss.\n")
    assert "dev1 to dev4 are on one disk and are lost together; 3 files are on that disk only." in text
    assert "dev1 to dev4 are on one file system: the free space of each is the same space." in text
    words = "dev3 and dev4 are on the same disk: if that disk fails, 3 files would be lost."
    said.finally_("simulate", "--lose", "h1", "--rate", "2", has=words)


@pytest.mark.slow
def test_rates_are_shown(store: Cluster, said: Said) -> None:
    """The status shows the throughput of the workers and their capacity."""
    _fill(store, 10, 0)
    told = said.status(lambda told: any(each["name"] == "replicate" and each["capacity"] for each in told["work"]))
    files, copied = (next(each for each in told["work"] if each["name"] == name) for name in ("replicate", "copied"))
    assert copied["capacity"] / files["capacity"] == pytest.approx(6, rel=0.5), (
        "the bytes that were copied, of files of 6"
    )
    text = said.finally_("simulate", "--lose", "h1", "--json", code=0, has='"rates_are_measured": true')
    assert json.loads(text)["byte_rate"] == pytest.approx(copied["capacity"], rel=0.5)


def test_simulate(disks_apart: None, store: Cluster, said: Said) -> None:
    """The effect of losing a host or a device is shown as text, as JSON and by the exit code, and nothing changes."""
    _fill(store, 8, 4)
    lost = sum(1 for path in store.directory.glob("h1/dev*/**/*.fid")) - 8
    said.status(lambda told: told["files"]["one_failure_from_loss"] == 4)
    code = 7 if lost else 0
    text = said.finally_("simulate", "--lose", "h1", "--rate", "2", "--json", code=code, has='"before": 4')
    told = json.loads(text)
    assert told["lost_devices"] == [1, 2]
    assert told["lost"]["files"] == lost
    assert (told["copies"], told["bytes"]) == (8, 8 * 6)
    assert told["repair_seconds"] == 4
    assert told["compromised"]["files"] == 8
    assert told["one_failure_from_loss"] == {"before": 4, "after": 12 - lost, "repaired": 4 - lost}
    words = "The repair would take about 4 seconds, at 2 copies a second: 8 copies, 48 B."
    text = said.finally_("simulate", "--lose", "h1", "--rate", "2", code=code, has=words)
    assert "would not be spread as their class requires" in text
    said("simulate", "--lose", "dev9", code=3)
    said("simulate", code=2)
    said.finally_("simulate", "--lose", "h1,h2", code=7, has="12 files (72 B) would be lost for ever.")
    said.finally_("status", has="All is well.")


@pytest.mark.slow
def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said) -> None:
    """A failing disk is reported, and drained if the setting says so; clients of MogileFS see no difference."""
    reports.program(tmp_path / "bin", reports.nvme())
    failing = reports.program(tmp_path / "failing", reports.sata(passed=False, reallocated=4000, failed="now"))
    (tmp_path / "bin" / "smartctl").write_text(f'#!/bin/sh\n[ "$4" = /dev/sdb ] && exec {failing} "$@"\n'
                                               f"cat {tmp_path}/bin/report.json\n")  # fmt: skip
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(disk_health, "_disks_of", lambda place: ["sdb" if place.name == "dev3" else "sda"])
    monkeypatch.setattr(usage, "PERIOD", 0.5)
    (tmp_path / "store").mkdir()
    with run(tmp_path / "store", workers=True, disk_health=True) as store:
        monkeypatch.setenv("TAWARA_TRACKERS", store.trackers)
        words = "The disk of dev3 on h2 is failing: Reallocated Sector Ct is at 5, below its threshold of 10."
        said.finally_("status", code=1, has=words)
        until(lambda: said("device", "list").count("ok 41°C") == 3)
        (line,) = [each for each in said("device", "list", "--json").splitlines() if json.loads(each)["devid"] == 3]
        assert json.loads(line)["health"]["temperature"] == 38
        assert json.loads(line)["state"] == "alive", "drained without being told"
        _fill(store, 20, 0)
        assert any(store.directory.glob("h2/dev3/**/*.fid"))
        said("settings", "set", "tawara_drain_failing", "1")
        until(lambda: "drain" in said("device", "list"), 60)
        states = {
            json.loads(each)["devid"]: json.loads(each)["state"]
            for each in said("device", "list", "--json").splitlines()
        }
        assert states == {1: "alive", 2: "alive", 3: "drain", 4: "alive"}
        until(lambda: not any(store.directory.glob("h2/dev3/**/*.fid")))


def test_dry_runs(store: Cluster, said: Said) -> None:
    """A dry run prints what would be removed, or why not, with the exit code of the removal; nothing is removed."""
    with Client(store.trackers) as client:
        client.put("d", "cat", b"a body")
    assert "has 1 file, for example 'cat'" in said("domain", "remove", "d", "--dry-run", code=4)
    (told,) = map(json.loads, said("class", "remove", "d", "md5", "-n", "--json").splitlines())
    assert (told["refused"], told["class"]) == (None, "md5")
    assert "dev1 (alive) and dev2 (alive)" in said("host", "remove", "h1", "--dry-run", code=4)
    assert "only a device that is dead is removed" in said("device", "remove", "1", "--dry-run", code=4)
    assert "nothing would be removed" in said("settings", "remove", "skip_mkcol", "--dry-run")
    assert "one failure from loss" in said.run("device", "change", "1", "--state", "dead", "--dry-run")[1]
    assert "it would be read last" in said("device", "change", "1", "--state", "drain", "--dry-run")
    assert said("class", "list").count("md5") == 1
    assert '"state": "dead"' not in said("device", "list", "--json")
    said("domain", "remove", "d", code=4)
    said("device", "remove", "1", code=4)
    said("settings", "set", "skip_mkcol", "1")
    said("settings", "remove", "skip_mkcol")
    assert said("settings", "get", "skip_mkcol") == "0\n"  # its default
    said("device", "add", "9", "--host", "h1")
    said("device", "change", "9", "--state", "dead")
    assert "would be removed" in said("device", "remove", "9", "--dry-run")
    said("device", "remove", "9")
    assert '"devid": 9' not in said("device", "list", "--json")
