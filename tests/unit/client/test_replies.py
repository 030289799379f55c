"""Replies of trackers that lack what another version sends, and how long the client waits for slow ones."""

from __future__ import annotations

from typing import Any, cast

import pytest

from tawara.client.administration import RECOUNT
from tawara.client.asynchronous import AsyncClient
from tawara.client.maintenance_replies import FsckStatus, read_explanation
from tawara.client.trackers import Trackers

WHOLE = {
    "running": b"1", "host": b"h", "max_fid_checked": b"5", "end_fid": b"9", "policy_only": b"1", "start_time": b"2",
    "stop_time": b"3", "current_time": b"4", "max_logid": b"6", "queued": b"7", "stalled": b"8", "start_fid": b"0",
    "checked": b"10", "start_logid": b"11",
}  # fmt: skip


def test_fsck_status_of_any_tracker() -> None:
    """All numbers of a reply are read; what MogileFS does not report is 0 where it is a time, else None."""
    at = FsckStatus.read(WHOLE)
    assert (at.running, at.host, at.position, at.end, at.policy_only) == (True, "h", 5, 9, True)
    assert (at.start_time, at.stop_time, at.current_time, at.last_logid, at.queued, at.stalled) == (2, 3, 4, 6, 7, 8)
    assert (at.start_fid, at.checked, at.start_logid) == (0, 10, 11)
    at = FsckStatus.read({})
    assert (at.running, at.position, at.end, at.policy_only, at.start_time, at.stop_time) == (False, 0, 0, False, 0, 0)
    assert (at.current_time, at.last_logid) == (0, 0)
    assert (at.queued, at.stalled, at.start_fid, at.checked, at.start_logid) == (None,) * 5


@pytest.mark.parametrize("recount", [True, False])
async def test_a_count_of_all_files_may_take_long(monkeypatch: pytest.MonkeyPatch, recount: bool) -> None:
    """With `recount` the tracker counts all files first, and the client waits for that."""
    asked: list[tuple[Any, ...]] = []

    class Asked(Exception):
        """The request was recorded."""

    async def ask_for(_: Trackers, read: object, command: str, args: Any, *, timeout: float | None = None) -> Any:
        asked.append((command, args["recount"], timeout))
        raise Asked

    monkeypatch.setattr(Trackers, "ask_for", ask_for)
    async with AsyncClient("127.0.0.1:1") as client:
        for call in (client.store_status(recount=recount), client.placement([1], recount=recount)):
            with pytest.raises(Asked):
                await cast("Any", call)
    timeout = RECOUNT if recount else None
    assert asked == [("tawara_status", int(recount), timeout), ("tawara_placement", int(recount), timeout)]


def test_sentences_of_an_explanation() -> None:
    """Each sentence has its topic, and says whether it is a problem."""
    reply = {
        "verdict": b"wanting", "fid": b"7", "sentences": b"2",
        "sentence1_topic": b"policy", "sentence1_text": b"good", "sentence1_trouble": b"0",
        "sentence2_topic": b"obstacle", "sentence2_text": b"bad", "sentence2_trouble": b"1",
    }  # fmt: skip
    explanation = read_explanation(reply)
    assert explanation.fid == 7
    assert [(str(each.topic), each.text, each.trouble) for each in explanation.sentences] == [
        ("policy", "good", False),
        ("obstacle", "bad", True),
    ]
