"""What is said of the continuous scrub."""

from __future__ import annotations

from dataclasses import replace

from tawara.cli import scrubbed
from tawara.client.maintenance_replies import ScrubStatus

STANDS = ScrubStatus(
    period=86400, began=1_000_000, position=50, end=100, checked=50, current_time=1_040_000, queued=0, stalled=0,
    last_logid=0, counts={}, left=50, expected_end=1_086_400,
)  # fmt: skip


def test_nothing_is_wrong() -> None:
    """A round in time that found nothing is told in one line, and worries nobody; neither does a scrub that is off."""
    assert "50% of this round done, 50 files, it began " in scrubbed.where(STANDS)
    assert scrubbed.where(STANDS).endswith("in time.")
    assert scrubbed.found(STANDS) == ""
    assert scrubbed.sentences(STANDS) == []
    assert scrubbed.sentences(replace(STANDS, period=0)) == []


def test_what_was_found_and_became_of_it() -> None:
    """Damage that is mended is told, and nothing wrong; what needs a person is."""
    stands = replace(STANDS, bad_replicas=4, bad_files=3, repaired=2, bad_waiting=1)
    assert scrubbed.found(stands) == "Within that time 4 replicas went bad: 2 files repaired, 1 file being repaired."
    assert scrubbed.sentences(stands) == []
    stands = replace(stands, unrepairable=1)
    assert scrubbed.found(stands).endswith("1 file being repaired, 1 file for manual intervention.")
    (said,) = scrubbed.sentences(stands)
    assert said.startswith("1 file needs manual intervention")


def test_a_round_that_is_late() -> None:
    """A scrub that does not keep its period is wrong, and how long the round will take is said."""
    stands = replace(STANDS, late=True, expected_end=1_000_000 + 3 * 86400)
    assert scrubbed.where(stands).endswith("this round is expected to take 3 days.")
    assert scrubbed.sentences(stands) == [
        "The scrub does not keep its period of 1 day: this round is expected to take 3 days"
    ]
