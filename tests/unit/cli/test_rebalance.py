"""What `tawara rebalance` prints and starts, against a client that returns fixed values."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import pytest

from tawara.cli import rebalance
from tawara.client.replies import DeviceInfo
from tawara.model import errors
from tawara.model.cluster import Cluster, Device, DeviceState, Host, HostState, Observation, Observed
from tawara.model.errors import Exit
from tawara.model.rebalance import RebalanceState
from tests.unit.cli.fake_session import FakeSession

EVEN = {1: 500, 2: 500, 3: 500}
UNEVEN = {1: 900, 2: 100, 3: 500}
STATE = RebalanceState(
    source_devs=(1, 2), time_started=1000, time_latest_run=1100,
    fids_queued=10, bytes_queued=10 * 2**20,
)  # fmt: skip
ENDED = replace(STATE, time_finished=1200, completed_devs=(1, 2), source_devs=())


def _cluster(used: dict[int, int]) -> Cluster:
    """Devices of 1000 MB on a host each, so full."""
    return Cluster(
        hosts={n: Host(n, f"h{n}", HostState.ALIVE, f"10.0.0.{n}", 7500) for n in used},
        devices={n: Device(n, n, DeviceState.ALIVE, mb_total=1000, mb_used=mb, mb_asof=1) for n, mb in used.items()},
        observed={n: Observation(Observed.WRITEABLE) for n in used},
    )


class _Client:
    """Records changes; `states` are the results of rebalance_status in turn, the last one for ever."""

    def __init__(self, *states: RebalanceState | Exception, is_on: bool = False, policy: str = "") -> None:
        self.states = list(states)
        self.settings = {"rebal_host": "h" if is_on else "", "rebal_policy": policy}
        self.changes: list[str] = []
        self.asof = 5000

    async def setting(self, name: str) -> str:
        return self.settings[name]

    async def rebalance_status(self) -> RebalanceState:
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, Exception):
            raise state
        return state

    async def rebalance_set_policy(self, text: str) -> None:
        self.changes.append(text)

    async def rebalance_start(self) -> RebalanceState:
        self.changes.append("start")
        return STATE

    async def devices(self) -> list[DeviceInfo]:
        return [
            DeviceInfo(devid, devid, DeviceState.ALIVE, 100, 1000, 300, observed, None, mb_asof=asof)
            for devid, observed, asof in ((2, Observed.WRITEABLE, self.asof), (3, None, 0))
        ]


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """How full the devices are that the client sees; no pauses."""
    used = dict(UNEVEN)

    async def snapshot(_: object) -> Cluster:
        return _cluster(used)

    monkeypatch.setattr(rebalance, "snapshot", snapshot)
    monkeypatch.setattr(rebalance, "_LOOK_AGAIN", 0)
    return used


def _session(client: _Client, *, as_json: bool = False) -> FakeSession:
    return FakeSession(json=as_json, fake=client)


NO_RUN = errors.NoRebalState()


async def test_without_a_terminal_only_the_plan_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """The plan names sources and targets with their usage, and nothing is moved without --yes."""
    client = _Client(NO_RUN)
    assert await rebalance.level(session=_session(client)) == Exit.OK
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines() if line.startswith("dev")]
    assert rows == [["dev1", "from", "90%", "1.0", "GB"], ["dev2", "to", "10%", "1.0", "GB"]]
    assert "use --yes" in printed.err
    assert client.changes == []


@pytest.mark.parametrize(("answer", "moves"), [("y\n", True), (" YES \n", True), ("n\n", False), ("\n", False)])
async def test_a_terminal_is_asked(monkeypatch: pytest.MonkeyPatch, answer: str, moves: bool) -> None:
    """On a terminal files are moved if the answer is yes."""
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    client = _Client(NO_RUN, replace(ENDED, fids_queued=0))
    await rebalance.level(session=_session(client))
    assert bool(client.changes) is moves


async def test_runs_follow_each_other_until_nothing_is_moved(cluster: dict[int, int]) -> None:
    """Runs are repeated, each with a plan of its own, until one moves nothing or the devices are equally full."""
    client = _Client(NO_RUN, ENDED, ENDED, replace(ENDED, fids_queued=0))
    await rebalance.level(yes=True, session=_session(client))
    assert client.changes[1::2] == ["start", "start"]
    client = _Client(NO_RUN, replace(STATE, time_stopped=1100))
    await rebalance.level(yes=True, session=_session(client))
    assert len(client.changes) == 2
    cluster.update(EVEN)
    client = _Client(NO_RUN)
    await rebalance.level(yes=True, session=_session(client))
    assert client.changes == []


async def test_a_run_that_exists_is_continued() -> None:
    """A run under way is followed, and a stopped one is started again, with its policy."""
    nothing = replace(ENDED, fids_queued=0)
    client = _Client(nothing, is_on=True)
    await rebalance.level(session=_session(client))
    assert client.changes == []
    client = _Client(replace(STATE, time_stopped=1100), nothing)
    await rebalance.level(session=_session(client))
    assert client.changes == ["start"]


@pytest.mark.parametrize("as_json", [False, True])
async def test_nothing_to_do(cluster: dict[int, int], capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    """Devices that are equally full give no plan, as text and as JSON, and nothing is started."""
    cluster.update(EVEN)
    client = _Client(NO_RUN)
    for act in (rebalance.level, rebalance.plan, rebalance.start):
        await act(session=_session(client, as_json=as_json))
        said = capsys.readouterr().out
        if as_json:
            assert json.loads(said) == {"policy": None, "sources": [], "targets": []}
        else:
            assert said == "Nothing to do: the devices are about as full.\n"
    assert client.changes == []


async def test_a_plan_of_a_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """A plan shows what a policy would move, and why it can move nothing."""
    await rebalance.plan("from_devices=1", "to_devices=3", session=_session(_Client(), as_json=True))
    assert json.loads(capsys.readouterr().out) == {
        "policy": "from_devices=1 to_devices=3", "sources": [1], "targets": [3],
    }  # fmt: skip
    for policy, reason in (("from_devices=99", "names no device"), ("from_devices=1 to_devices=1", "no other device")):
        await rebalance.plan(policy, session=_session(_Client()))
        assert reason in capsys.readouterr().out


async def test_start(capsys: pytest.CaptureFixture[str]) -> None:
    """`start` sets the policy and starts; without one it continues a stopped run; an impossible one is refused."""
    client = _Client(NO_RUN)
    await rebalance.start("from_devices=1", session=_session(client))
    assert client.changes == ["from_devices=1", "start"]
    assert "Policy: from_devices=1" in capsys.readouterr().out
    client = _Client(replace(STATE, time_stopped=1100))
    await rebalance.start(session=_session(client))
    assert (client.changes, capsys.readouterr().out) == (["start"], "")
    client = _Client(ENDED)
    await rebalance.start(wait=True, session=_session(client, as_json=True))
    assert len(client.changes) == 2  # an ended run is no stopped one
    assert json.loads(capsys.readouterr().out)["time_finished"] == 1200
    client = _Client(NO_RUN)
    with pytest.raises(rebalance.CannotMove, match="names no device"):
        await rebalance.start("from_devices=99", session=_session(client))
    assert client.changes == []


@pytest.mark.parametrize(
    ("state", "policy", "lines"),
    [
        (ENDED, "", ["Ended at", "2 of 2 devices done, 10 files, 10.5 MB queued to move."]),
        (replace(STATE, time_stopped=1100), "", ["Stopped at", "0 of 2 devices done, 10 files"]),
        (
            replace(STATE, sdev_current=1, sdev_lastfid=7),
            "",
            ["Running since", "dev1 at file 7", "About 50 minutes left"],
        ),
        (STATE, "limit_type=global limit_by=count limit=30", ["Running since"]),
        (replace(STATE, time_latest_run=1004), "", ["Running since"]),
        (replace(STATE, fids_queued=0), "", ["Running since"]),
    ],
)
async def test_status(capsys: pytest.CaptureFixture[str], state: RebalanceState, policy: str, lines: list[str]) -> None:
    """The status is a line with the progress, and the time left once the rate is known."""
    await rebalance.status(session=_session(_Client(state, policy=policy or "from_devices=1,2")))
    printed = capsys.readouterr().out
    for each in lines:
        assert each in printed
    known = state is STATE or state.sdev_current
    assert ("left" in printed) is bool(known)
