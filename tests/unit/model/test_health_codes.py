"""Health codes: mutes, histories, and their summary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.health_codes import (
    FORGOTTEN_AFTER,
    HISTORY_PREFIX,
    MUTE_PREFIX,
    RECORD_PERIOD,
    Finding,
    HealthCode,
    History,
    Mute,
    Severity,
    summarise,
    update_histories,
)
from tawara.model.settings import LONGEST_NAME

LOST, SUSPECT = HealthCode.FILES_LOST, HealthCode.DEVICE_SUSPECT


def test_a_mute_is_read_as_written() -> None:
    """A mute survives being stored; other texts are none."""
    mute = Mute(1_700_000_000, Severity.WARNING)
    assert Mute.parse(str(mute)) == mute
    for text in (
        None,
        "",
        "1700000000",
        "x warning",
        "1 wrong",
        "1  warning",
        "9" * 16 + " note",
        "-1 note",
        "1 WARNING",
    ):
        assert Mute.parse(text) is None, text


def test_a_mute_ends() -> None:
    """A mute covers what is not worse than when it was set, until its time."""
    mute = Mute(100, Severity.WARNING)
    assert mute.covers(Severity.NOTE, 99)
    assert mute.covers(Severity.WARNING, 99)
    assert not mute.covers(Severity.CRITICAL, 99)
    assert not mute.covers(Severity.WARNING, 100)


@pytest.mark.parametrize("text", [None, "", "1", "1 x", "1 2 3", "-1 2", "1 " + "9" * 16])
def test_a_history_that_cannot_be_read_is_none(text: str | None) -> None:
    """A row with another text does no harm."""
    assert History.parse(text) is None


def test_a_finding_has_a_beginning_and_an_end() -> None:
    """The first sighting stays while the finding lasts; a long gap removes the row."""
    assert update_histories([LOST], {}, 1000) == {LOST: History(1000, 1000)}
    known = {LOST: History(1000, 1000)}
    soon, late = 1000 + int(RECORD_PERIOD), 1001 + FORGOTTEN_AFTER
    assert update_histories([LOST], known, 1010) == {}, "several trackers record the same"
    assert update_histories([LOST], known, soon) == {LOST: History(1000, soon)}
    assert update_histories([], known, soon) == {}, "one tracker may not see it for a moment"
    assert update_histories([], known, late) == {LOST: None}
    assert update_histories([LOST], known, late) == {LOST: History(late, late)}


@given(st.lists(st.booleans(), max_size=40))
def test_since_is_the_begin_of_the_last_run_of_sightings(sightings: list[bool]) -> None:
    """Recorded every minute, `since` never changes while no gap is longer than the limit."""
    known: dict[HealthCode, History] = {}
    begin: int | None = None
    last = 0
    for minute, seen in enumerate(sightings):
        now = 1000 + minute * int(RECORD_PERIOD)
        for code, change in update_histories([LOST] if seen else [], known, now).items():
            if change is None:
                del known[code]
            else:
                known[code] = change
        if seen:
            if begin is None or now - last > FORGOTTEN_AFTER:
                begin = now
            last = now
            assert begin is not None
            assert known[LOST] == History(begin, now)
        elif begin is not None and now - last > FORGOTTEN_AFTER:
            assert LOST not in known


def test_the_summary_has_one_item_a_code() -> None:
    """Findings of a code are one item with the worst severity; the worst come first; a muted one needs no attention."""
    findings = [
        Finding(SUSPECT, Severity.WARNING, "one"),
        Finding(LOST, Severity.CRITICAL, "lost"),
        Finding(SUSPECT, Severity.NOTE, "two"),
    ]
    settings = {
        f"{MUTE_PREFIX}{SUSPECT}": "2000 warning",
        f"{MUTE_PREFIX}{LOST}": "2000 warning",
        f"{HISTORY_PREFIX}{SUSPECT}": "500 990",
        f"{HISTORY_PREFIX}{LOST}": "500 600",
    }
    lost, suspect = summarise(findings, settings, 1000)
    assert (lost.code, lost.since, lost.muted_until, lost.needs_attention) == (LOST, None, None, True)
    assert (suspect.code, suspect.since, suspect.muted_until) == (SUSPECT, 500, 2000)
    assert (suspect.severity, suspect.texts, suspect.needs_attention) == (Severity.WARNING, ("one", "two"), False)


def test_the_rows_of_each_code_fit() -> None:
    """The longest code fits into the name of a setting."""
    longest = max(len(each) for each in HealthCode)
    assert len(MUTE_PREFIX) + longest <= LONGEST_NAME
    assert len(HISTORY_PREFIX) + longest <= LONGEST_NAME
