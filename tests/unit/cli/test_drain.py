"""The progress lines of `tawara device drain`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tawara.cli import output
from tawara.cli.drain import _describe_progress, _kind
from tawara.client.maintenance_replies import DrainStatus

AT = DrainStatus(
    devid=3, began=0, files=10, left=0, waiting=0, failed=0, uploads=2, uploads_until=1_800_000_000, copies=0,
    safe=False, current_time=100,
)  # fmt: skip


def test_the_end_of_waiting_for_uploads_is_shown() -> None:
    """While only open uploads are left, their number and the latest time of their expiry are shown."""
    said = _describe_progress(AT)
    assert "2 uploads may still go there" in said
    assert f"given up, at {output.local_time(1_800_000_000)} at the latest" in said
    assert "latest" not in _describe_progress(replace(AT, uploads_until=0))  # an older tracker does not tell


def test_without_a_terminal_only_changes_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """When piped, the reason for waiting is printed once, and again when it changes, but not at each poll."""
    line = output.ChangingLine(piped=True)
    moving = replace(AT, left=5, waiting=5)
    for each in (moving, replace(moving, left=4), AT, AT):
        line.say(_describe_progress(each), kind=_kind(each))
    line.clear()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("dev3 is being drained: 5 of 10 files are left")
    assert "2 uploads may still go there" in said[1]
