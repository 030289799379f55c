"""What `tawara device drain` says while it waits."""

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


def test_abandoned_uploads_are_waited_for_until_a_time() -> None:
    """While only uploads are waited for, it is said how many, and when they are given up at the latest."""
    said = _describe_progress(AT)
    assert "2 uploads may still go there" in said
    assert f"given up, at {output.local_time(1_800_000_000)} at the latest" in said
    assert "latest" not in _describe_progress(replace(AT, uploads_until=0))  # an older tracker does not tell


def test_without_a_terminal_a_line_is_said_when_the_reason_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """Piped, the reason for waiting is said once, and again when it is another one, but not at each look."""
    line = output.ChangingLine(piped=True)
    moving = replace(AT, left=5, waiting=5)
    for each in (moving, replace(moving, left=4), AT, AT):
        line.say(_describe_progress(each), kind=_kind(each))
    line.clear()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("dev3 is being drained: 5 of 10 files are left")
    assert "2 uploads may still go there" in said[1]
