"""`tawara fsck` and `tawara rebalance` against a real store, as a person or a script calls them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tawara import cli
from tawara.client import Client
from tests.acceptance.cluster import Cluster, run


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A store of two hosts with workers, which the commands find by TAWARA_TRACKERS."""
    with run(tmp_path_factory.mktemp("store"), workers=True) as started:
        monkeypatch.setenv("TAWARA_TRACKERS", started.trackers)
        yield started


def _fill(store: Cluster, count: int) -> list[int]:
    """Store files, and wait for their copies; their fids."""
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
    """A check reports in words what it found, as JSON too, and with 7 that a file is gone for good."""
    assert cli.main(["fsck", "status"]) == 0
    assert capsys.readouterr().out == "No check has run.\n"
    first, second = _fill(store, 2)
    assert cli.main(["fsck", "start", "--wait"]) == 0
    assert "every file that was checked is well" in capsys.readouterr().out
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


def test_rebalance(store: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """A run is planned, made and reported; even devices need none; a wrong policy is refused in words."""
    fids = _fill(store, 10)
    assert cli.main(["rebalance", "status"]) == 3
    assert cli.main(["rebalance", "plan", "from_device=1"]) == 2
    assert "Invalid setting from_device" in capsys.readouterr().err
    (plan,) = _json(capsys, "rebalance", "plan", "from_devices=1")
    assert plan == {"policy": "from_devices=1", "sources": [1], "targets": [2, 3, 4]}
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
