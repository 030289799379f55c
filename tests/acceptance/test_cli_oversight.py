"""`tawara explain`, `status` and `simulate` against a real store, as a person or a script calls them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

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


Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command line; what it printed. The exit code is as expected."""

    def run_it(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        assert cli.main([*words]) == code, capsys.readouterr()
        return capsys.readouterr().out

    return run_it


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
