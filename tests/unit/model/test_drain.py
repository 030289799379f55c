"""The passes of draining a device, and when it may be removed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.drain import LONGEST_PAUSE, PAUSE, SETTLED, DrainRun, is_safe, queued, seconds_left

STATES = st.builds(
    DrainRun,
    **{name: st.integers(0, 2**40) for name in ("began", "files", "position", "due", "left")},
    was_alive=st.integers(0, 1),
    pause=st.integers(PAUSE, LONGEST_PAUSE),
)


@given(STATES)
def test_state_round_trips(at: DrainRun) -> None:
    """The text in the settings parses to an equal state."""
    assert DrainRun.parse(str(at)) == at
    assert DrainRun.parse("began=x nonsense") == DrainRun()


@given(STATES, st.lists(st.integers(1, 100), min_size=1, max_size=5, unique=True).map(sorted), st.integers(0, 9))
def test_passes_follow_each_other(at: DrainRun, fids: list[int], left: int) -> None:
    """A full batch continues after its last file; a smaller one ends the pass, and the next begins after a pause."""
    more = queued(at, fids, len(fids), left=0, now=1000)
    assert (more.position, more.due) == (fids[-1], 1001)
    over = queued(at, fids, len(fids) + 1, left=left, now=1000)
    assert over.position == 0
    assert 1000 + PAUSE <= over.due <= 1000 + LONGEST_PAUSE


def test_passes_without_progress_become_rare() -> None:
    """The pause grows as long as the same files are left, and is short again once some were moved."""
    at, pauses = DrainRun(began=1, files=5), []
    for left in (5, 5, 5, 5, 5, 5, 5, 5, 5, 4):
        at = queued(at, [], 1, left=left, now=0)
        pauses.append(at.due)
    assert pauses == [15, 30, 60, 120, 240, 480, 900, 900, 900, 15]


@given(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 30))
def test_when_removal_is_safe(left: int, uploads: int, copies: int, now: int) -> None:
    """Removal is unsafe while a row names the device, an upload may still be written to it, or a tracker may not know
    of the drain."""
    safe = is_safe(DrainRun(began=5), left=left, uploads=uploads, copies=copies, now=now)
    assert safe == (not left and not uploads and not copies and now - 5 >= SETTLED)


def test_an_estimate() -> None:
    """The estimate follows the rate so far; there is none before anything was moved."""
    at = DrainRun(began=100, files=50)
    assert seconds_left(at, left=50, now=200) is None
    assert seconds_left(at, left=25, now=200) == 100
