"""Findings about the scrub."""

from __future__ import annotations

from dataclasses import replace

from tawara.cli import scrubbed
from tawara.client.maintenance_replies import ScrubStatus
from tawara.monitoring.findings import find_scrub_problems

STANDS = ScrubStatus(
    period=86400, began=1_000_000, position=50, end=100, checked=50, current_time=1_040_000, queued=0, stalled=0,
    last_logid=0, counts={}, left=50, expected_end=1_086_400,
)  # fmt: skip


def test_nothing_is_wrong() -> None:
    """A pass in time without damage is reported in one line without a finding; so is a disabled scrub."""
    assert "50% of this round done, 50 files, it began " in scrubbed.where(STANDS)
    assert scrubbed.where(STANDS).endswith("in time.")
    assert scrubbed.found(STANDS) == ""
    assert find_scrub_problems(STANDS) == []
    assert find_scrub_problems(replace(STANDS, period=0)) == []


def test_damage_and_its_repair() -> None:
    """Repaired damage is reported without a finding; damage that needs manual intervention is one."""
    stands = replace(STANDS, bad_replicas=4, bad_files=3, repaired=2, bad_waiting=1)
    assert scrubbed.found(stands) == "Within that time 4 replicas went bad: 2 files repaired, 1 file being repaired."
    assert find_scrub_problems(stands) == []
    stands = replace(stands, unrepairable=1)
    assert scrubbed.found(stands).endswith("1 file being repaired, 1 file for manual intervention.")
    (said,) = find_scrub_problems(stands)
    assert said.text.startswith("1 file needs manual intervention")


def test_a_late_pass() -> None:
    """A scrub that exceeds its period is a finding, with the expected duration."""
    stands = replace(STANDS, late=True, expected_end=1_000_000 + 3 * 86400)
    assert scrubbed.where(stands).endswith("this round is expected to take 3 days.")
    assert [each.text for each in find_scrub_problems(stands)] == [
        "The scrub does not keep its period of 1 day: this round is expected to take 3 days"
    ]
