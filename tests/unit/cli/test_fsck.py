"""What `tawara fsck` prints and returns, against a client that returns fixed values."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tawara.cli import fsck, fsck_report
from tawara.cli.usage import MissingArgument
from tawara.client.maintenance_replies import FsckLine, FsckStatus
from tawara.model.errors import Exit
from tests.unit.cli.fake_session import FakeSession

NEVER = FsckStatus(
    running=False, host="", position=0, end=0, policy_only=False, start_time=0, stop_time=0, current_time=1100,
    last_logid=0, queued=0, stalled=0, counts={},
)  # fmt: skip
ENDED = replace(NEVER, start_time=1000, stop_time=1050, position=200, end=200, start_fid=0)
RUNNING = replace(ENDED, running=True, stop_time=0, position=50)


class _Client:
    """Returns each state in turn, and the lines of a log after a logid."""

    def __init__(self, *states: FsckStatus, lines: int = 0) -> None:
        self.states = list(states)
        self.lines = [FsckLine(number, 1000, "REPL", number, None) for number in range(1, lines + 1)]
        self.calls: list[Any] = []

    async def fsck_status(self) -> FsckStatus:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    async def fsck_reset(self, **options: Any) -> None:
        self.calls.append(options)

    async def fsck_start(self) -> None:
        self.calls.append("start")

    async def fsck_log(self, after: int) -> list[FsckLine]:
        return [line for line in self.lines if line.logid > after][:2]

    async def fsck_clear_log(self) -> None:
        self.calls.append("clear")


def _session(client: _Client, *, as_json: bool = False) -> FakeSession:
    return FakeSession(json=as_json, fake=client)


@pytest.mark.parametrize(
    ("at", "first", "result"),
    [
        (NEVER, "No check has run.", Exit.OK),
        (replace(NEVER, stale="Restore it."), "Restore it.", Exit.FAILURE),
        (RUNNING, "Running since ", Exit.OK),
        (replace(ENDED, queued=3), "Every file is queued; 3 wait to be checked.", Exit.OK),
        (replace(ENDED, position=199), "Stopped at ", Exit.OK),
        (ENDED, "Ended at ", Exit.OK),
        (replace(ENDED, counts={"GONE": 1}), "Ended at ", Exit.CORRUPT),
        (replace(ENDED, stale="Restore it."), "Ended at ", Exit.FAILURE),
    ],
)
async def test_status_begins_with_the_state(
    capsys: pytest.CaptureFixture[str], at: FsckStatus, first: str, result: int
) -> None:
    """The first line of `status` is the state of the check; the exit code says whether an operator has to act."""
    assert await fsck.status(session=_session(_Client(at))) == result
    assert capsys.readouterr().out.startswith(first)


async def test_status_names_restrictions(capsys: pytest.CaptureFixture[str]) -> None:
    """`status` reports restrictions to the database or to some files, and nothing if there are none."""
    await fsck.status(session=_session(_Client(replace(ENDED, policy_only=True, focus="class photos/raw"))))
    said = capsys.readouterr().out
    assert "Only the database is checked" in said
    assert "Restricted to: class photos/raw." in said
    await fsck.status(session=_session(_Client(ENDED)))
    said = capsys.readouterr().out
    assert "Only the database" not in said
    assert "Restricted" not in said


async def test_status_as_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json a single object is printed, also when the database is stale."""
    assert await fsck.status(session=_session(_Client(replace(ENDED, stale="Old.")), as_json=True)) == Exit.FAILURE
    assert json.loads(capsys.readouterr().out)["stale"] == "Old."


@pytest.mark.parametrize(
    ("at", "progress"),
    [
        (RUNNING, "25%, file 50 of 200, about 5 minutes left"),
        (replace(RUNNING, start_fid=40), "25%, file 50 of 200, about 25 minutes left"),
        (replace(RUNNING, start_fid=50), "25%, file 50 of 200"),
        (replace(RUNNING, start_fid=None), "25%, file 50 of 200"),
        (replace(RUNNING, current_time=1002), "25%, file 50 of 200"),
        (replace(RUNNING, current_time=1003), "25%, file 50 of 200, about 9 seconds left"),
        (replace(RUNNING, end=0, position=0), "100%, file 0 of 0"),
        (replace(RUNNING, start_fid=None, position=300), "100%, file 300 of 200"),
        (replace(RUNNING, start_fid=None, queued=7), "25%, file 50 of 200, 7 waiting"),
        (
            replace(RUNNING, start_fid=None, counts={"MISS": 2, "BSUM": 1, "REPL": 9, "GONE": 4}),
            "25%, file 50 of 200, 3 with problems, 4 gone",
        ),
    ],
)
def test_progress(at: FsckStatus, progress: str) -> None:
    """Progress has the share, the waiting files and problems, and the time left once the rate is known."""
    assert fsck._progress(at) == progress


def test_a_stopped_check_has_no_time_left() -> None:
    """A check that is not running has no remaining time."""
    assert fsck._time_left(replace(RUNNING, running=False)) is None


async def test_start_resets_only_for_new_options() -> None:
    """Without options `start` continues; any option, also position 0, resets the check first."""
    client = _Client(ENDED)
    assert await fsck.start(session=_session(client)) == Exit.OK
    assert client.calls == ["start"]
    client = _Client(ENDED)
    await fsck.start(position=0, session=_session(client))
    assert client.calls[0]["position"] == 0
    assert client.calls[1] == "start"
    for options in ({"domain": "d"}, {"prefix": "p"}, {"device": (3,)}, {"every_byte": True}, {"policy_only": True}):
        client = _Client(ENDED)
        await fsck.start(**options, session=_session(client))
        assert len(client.calls) == 2


async def test_a_class_needs_its_domain() -> None:
    """`--class` without `--domain` is a missing argument; with it, both are sent."""
    with pytest.raises(MissingArgument):
        await fsck.start(storage_class="raw", session=_session(_Client(ENDED)))
    client = _Client(ENDED)
    await fsck.start(domain="photos", storage_class="raw", session=_session(client))
    assert (client.calls[0]["domain"], client.calls[0]["storage_class"]) == ("photos", "raw")


async def test_start_waits_for_the_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """`start --wait` returns the result of the report once no file is waiting to be queued or checked."""
    monkeypatch.setattr(fsck, "_LOOK_AGAIN", 0)
    client = _Client(RUNNING, replace(ENDED, queued=1), replace(ENDED, counts={"GONE": 1}))
    assert await fsck.start(wait=True, session=_session(client)) == Exit.CORRUPT
    assert len(client.states) == 1
    client = _Client(replace(RUNNING, stale="Old."))
    assert await fsck.start(wait=True, session=_session(client)) == Exit.FAILURE
    assert capsys.readouterr().out.endswith("Old.\n")


async def test_the_log_is_printed_to_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """`log` prints every line after the given one, once each, and empties the log only with --clear."""
    client = _Client(ENDED, lines=5)
    await fsck.log(after=1, session=_session(client, as_json=True))
    assert [json.loads(line)["logid"] for line in capsys.readouterr().out.splitlines()] == [2, 3, 4, 5]
    assert client.calls == []
    await fsck.log(clear=True, session=_session(client))
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert client.calls == ["clear"]


async def test_a_report_reads_its_own_part_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report reads all lines after the check's first, up to a limit, and says when there are more."""
    client: Any = _Client(ENDED, lines=5)
    client.lines = [replace(line, code="GONE") for line in client.lines]
    at = replace(ENDED, counts={"GONE": 1}, start_logid=1)
    found = await fsck_report.read_report(client, at)
    assert (sorted(found.unrepairable), found.cut_off) == ([2, 3, 4, 5], False)
    monkeypatch.setattr(fsck_report, "LINES", 2)
    found = await fsck_report.read_report(client, at)
    assert (sorted(found.unrepairable), found.cut_off) == ([2, 3], True)
    for nothing in (replace(at, start_logid=None), replace(at, counts={"REPL": 3})):
        assert await fsck_report.read_report(client, nothing) == fsck_report.FsckReport()
