"""`tawara fsck` and `tawara rebalance` against a real store, as an operator or a script calls them."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from tawara import cli
from tawara.client import Client
from tests.acceptance.cluster import Cluster, run


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A store of two hosts with workers, which the commands find by TAWARA_TRACKERS."""
    # What the store says must not come between what the commands say.
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with run(tmp_path_factory.mktemp("store"), workers=True) as started:
            monkeypatch.setenv("TAWARA_TRACKERS", started.trackers)
            yield started
    finally:
        structlog.configure(**before)


def _fill(store: Cluster, count: int) -> list[int]:
    """Store files, and wait for their copies; return their fids."""
    with Client(store.trackers) as client:
        fids = [client.put("d", f"k{number}", b"a body").fid for number in range(count)]
        end = time.monotonic() + 20
        while any(client.info("d", f"k{number}").copies < 2 for number in range(count)):
            assert time.monotonic() < end
            time.sleep(0.05)
    return fids


def _json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> list[dict[str, object]]:
    assert cli.main([*words, "--json"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_fsck(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A check reports its findings as text and as JSON, and lost files with exit code 7."""
    assert cli.main(["fsck", "status"]) == 0
    assert capsys.readouterr().out == "No check has run.\n"
    first, second = _fill(store, 2)
    assert cli.main(["fsck", "start", "--wait"]) == 0
    assert "Every checked file is good." in capsys.readouterr().out
    store.replicas(first)[0].unlink()
    for path in store.replicas(second):
        path.unlink()
    assert cli.main(["fsck", "start", "--wait"]) == 7
    said = capsys.readouterr().out
    assert "3  MISS  replica not on its disk" in said
    assert "1  GONE" in said
    (status,) = _json(capsys, "fsck", "status", code=7)
    assert (status["busy"], status["position"]) == (False, second)
    assert status["counts"] == {"MISS": 3, "SRCH": 1, "GONE": 1, "REPL": 1}
    lines = _json(capsys, "fsck", "log")
    assert [line["code"] for line in lines if line["fid"] == first] == ["MISS", "REPL"]
    after = _json(capsys, "fsck", "log", "--after", str(lines[1]["logid"]))
    assert after == lines[2:]
    assert cli.main(["fsck", "log", "--clear"]) == 0
    capsys.readouterr()
    assert _json(capsys, "fsck", "log") == []
    assert cli.main(["fsck", "start", "--policy-only", "--from", str(first), "--wait"]) == 7
    assert "no replica known" in capsys.readouterr().out
    assert cli.main(["fsck", "status"]) == 7
    assert capsys.readouterr().out.startswith("Ended at ")
    assert cli.main(["fsck", "reset"]) == 0
    assert cli.main(["fsck", "stop"]) == 0


def test_a_restricted_check_and_its_report(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the selected files are checked, byte by byte; the report names the file that needs an operator, and why."""
    with Client(store.trackers) as client:
        client.create_domain("other")
    fids = _fill(store, 3)
    for number, fid in enumerate(fids):
        store.replicas(fid)[0].write_bytes(b"A body" if number else b"b body")
    with Client(store.trackers) as client:
        elsewhere = client.put("other", "k1", b"a body").fid
    assert cli.main(["fsck", "start", "--domain", "d", "--prefix", "k1", "--every-byte", "--wait"]) == 7
    said = capsys.readouterr().out
    assert "1  MSUM" in said
    assert f"d/k1 (fid {fids[1]}): its replicas differ" in said
    (status,) = _json(capsys, "fsck", "status", code=7)
    assert (status["checked"], status["focus"]) == (1, "domain d, prefix k1, every byte")
    assert status["needs_operator"] == [{"fid": fids[1], "domain": "d", "key": "k1", "found": ["MSUM"]}]
    on = {devid for devid in range(1, 5) if store.path(devid, elsewhere).exists()}
    assert cli.main(["fsck", "start", "--domain", "other", *(f"--device=dev{devid}" for devid in on), "--wait"]) == 0
    capsys.readouterr()
    (status,) = _json(capsys, "fsck", "status")
    assert status["checked"] == 1
    assert cli.main(["fsck", "start", "--domain", "nowhere"]) == 3
    assert cli.main(["fsck", "start", "--device", "dev77"]) == 3
    assert cli.main(["fsck", "start", "--class", "one"]) == 2
    assert cli.main(["fsck", "start", "--wait"]) == 0
    capsys.readouterr()
    (status,) = _json(capsys, "fsck", "status")
    assert (status["checked"], status["focus"]) == (4, "")


def test_scrub(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """With a short period a corrupt replica is found automatically, and `scrub status` reports it."""
    assert cli.main(["scrub", "status"]) == 0
    assert "within 30 days" in capsys.readouterr().out
    (fid,) = _fill(store, 1)
    assert cli.main(["fsck", "start", "--every-byte", "--wait"]) == 0
    rotten, good = store.replicas(fid)
    rotten.write_bytes(b"a bOdy")
    assert cli.main(["settings", "set", "tawara_scrub_period", "soon"]) == 2
    assert cli.main(["settings", "set", "tawara_scrub_period", "12s"]) == 0
    end = time.monotonic() + 100
    while [_bytes(path) for path in store.replicas(fid)] != [b"a body"] * 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert good.read_bytes() == b"a body"
    capsys.readouterr()
    (status,) = _json(capsys, "scrub", "status")
    assert (status["period"], status["counts"]) == (12, {"BSUM": 1, "REPL": 1})
    assert [line["code"] for line in _json(capsys, "scrub", "log")] == ["BSUM", "REPL"]
    assert cli.main(["settings", "set", "tawara_scrub_period", "0"]) == 0
    assert cli.main(["scrub", "status"]) == 0
    assert "The scrub is off" in capsys.readouterr().out


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None  # swept, and not yet created again


def test_levels_are_balanced(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a subcommand the plan is shown, and executed after confirmation, until the devices are balanced."""
    fids = _fill(store, 10)
    moved = 0
    for _ in range(5):  # the monitor may see meanwhile how full the devices really are: all alike, on one disk
        _pretend(store, {1: 900, 2: 100, 3: 500, 4: 500})
        with Client(store.trackers) as client:
            client.settings()
        assert cli.main(["rebalance"]) == 0
        said = capsys.readouterr()
        if "from_devices=1 to_devices=2" not in said.out:
            continue
        assert "use --yes" in said.err
        assert cli.main(["rebalance", "status"]) == 3
        capsys.readouterr()
        assert cli.main(["rebalance", "--yes"]) == 0
        said = capsys.readouterr()
        if "Ended at" in said.out:
            assert said.out.rstrip().endswith("Nothing to do: the devices are about as full.")
            moved = sum(store.path(2, fid).exists() for fid in fids)
            break
        assert cli.main(["rebalance", "reset"]) == 0
    assert moved
    assert not any(store.path(1, fid).exists() for fid in fids)


def _pretend(store: Cluster, used: dict[int, int]) -> None:
    """Set the usage of devices of 1000 MiB in the database."""
    with closing(sqlite3.connect(store.directory / "tawara.db", timeout=20)) as connection, connection:
        for devid, mib in used.items():
            connection.execute("UPDATE device SET mb_total = 1000, mb_used = ? WHERE devid = ?", (mib, devid))


def test_drain(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A device is drained while files are read, reported as removable when nothing is on it, and restored."""
    fids = _fill(store, 12)
    assert cli.main(["device", "drain"]) == 0
    assert "No device is being drained" in capsys.readouterr().out
    assert any(store.path(1, fid).exists() for fid in fids)
    assert cli.main(["device", "drain", "dev1", "--wait"]) == 0
    assert capsys.readouterr().out == "dev1 is empty: its disk may be removed.\n"
    with Client(store.trackers) as client:
        for number, fid in enumerate(fids):
            assert client.get("d", f"k{number}") == b"a body"
            assert len(store.replicas(fid)) == client.info("d", f"k{number}").copies == 2
            assert not store.path(1, fid).exists()
    (status,) = _json(capsys, "device", "drain", "--status")
    assert (status["devid"], status["left"], status["safe"]) == (1, 0, True)
    assert cli.main(["device", "drain", "1", "--undo"]) == 0
    assert _json(capsys, "device", "list")[0]["state"] == "alive"
    assert cli.main(["device", "drain", "dev1", "--status"]) == 3
    assert cli.main(["device", "drain", "dev99"]) == 3
    assert cli.main(["device", "drain", "sda"]) == 2


def test_a_device_that_cannot_be_drained(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that no other device may take stays, removal is never reported as safe, and the file moves once
    possible."""
    fids = _fill(store, 12)
    on = [fid for fid in fids if store.path(1, fid).exists()]
    assert on
    _set_state("readonly")
    assert cli.main(["device", "drain", "dev1"]) == 0
    capsys.readouterr()
    end = time.monotonic() + 5
    while time.monotonic() < end:
        (status,) = _json(capsys, "device", "drain")
        assert (status["left"], status["safe"]) == (len(on), False)
    assert all(store.path(1, fid).exists() for fid in on)
    _set_state("alive")
    assert cli.main(["device", "drain", "dev1", "--wait"]) == 0
    assert all(len(store.replicas(fid)) == 2 and not store.path(1, fid).exists() for fid in fids)


def _set_state(state: str) -> None:
    for devid in (2, 3, 4):
        assert cli.main(["device", "change", f"dev{devid}", "--state", state]) == 0


def test_rebalance(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A run is planned, executed and reported; balanced devices need none; an invalid policy is refused with a
    message."""
    fids = _fill(store, 10)
    assert cli.main(["rebalance", "status"]) == 3
    assert cli.main(["rebalance", "plan", "from_device=1"]) == 2
    assert "Invalid setting from_device" in capsys.readouterr().err
    (plan,) = _json(capsys, "rebalance", "plan", "from_devices=1")
    assert plan == {"policy": "from_devices=1", "sources": [1], "targets": [2, 3, 4]}
    for policy in ("from_devices=1 to_devices=1", "from_devices=99"):
        assert cli.main(["rebalance", "start", *policy.split()]) == 1
        assert "Nothing was started" in capsys.readouterr().err
    assert cli.main(["rebalance", "status"]) == 3
    assert {each["state"] for each in _json(capsys, "device", "list")} == {"alive"}
    assert cli.main(["rebalance", "start", "--wait", "from_devices=1"]) == 0
    said = capsys.readouterr().out
    assert "Policy: from_devices=1" in said
    assert "Ended at " in said
    assert "1 of 1 devices done" in said
    assert not any(store.path(1, fid) in store.replicas(fid) for fid in fids)
    (state,) = _json(capsys, "rebalance", "status")
    assert state["completed_devs"] == [1]
    assert state["time_finished"]
    assert cli.main(["rebalance", "start"]) == 0
    assert "about as full" in capsys.readouterr().out
    assert cli.main(["rebalance", "stop"]) == 4
    assert cli.main(["rebalance", "reset"]) == 0
    assert cli.main(["rebalance", "status"]) == 3
