"""smartctl's reports for each kind of disk and condition."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.health import DiskHealth, DiskVerdict
from tawara.wire.smartctl import read
from tests.smartctl import reports


@pytest.mark.parametrize(
    ("report", "verdict", "temperature", "detail"),
    [
        (reports.sata(), DiskVerdict.OK, 38, ""),
        (reports.sata(reallocated=8, pending=1), DiskVerdict.WORN, 38, "8 sectors reallocated; 1 sectors pending"),
        (reports.sata(passed=False), DiskVerdict.FAILING, 38, "the disk's own assessment has failed"),
        (
            reports.sata(passed=False, reallocated=4000, failed="now"),
            DiskVerdict.FAILING,
            38,
            "Reallocated Sector Ct is at 5, below its threshold of 10",
        ),
        (reports.sata(failed="past"), DiskVerdict.OK, 38, ""),
        (reports.nvme(), DiskVerdict.OK, 41, ""),
        (reports.nvme(warning=2), DiskVerdict.OK, 41, ""),
        (reports.nvme(media_errors=3, used=104), DiskVerdict.WORN, 41, "3 media errors; 104 % of its rated life used"),
        (
            reports.nvme(warning=5, passed=False),
            DiskVerdict.FAILING,
            41,
            "spare below its threshold; reliability degraded",
        ),
        (reports.NO_PERMISSION, DiskVerdict.UNKNOWN, None, "Smartctl open device: /dev/sda failed: Permission denied"),
        (reports.VIRTUAL, DiskVerdict.UNKNOWN, None, "/dev/vda: Unable to detect device type"),
        (reports.UNSUPPORTED, DiskVerdict.UNKNOWN, 0, "the disk does not say"),
    ],
)
def test_verdicts(report: dict[str, Any], verdict: DiskVerdict, temperature: int | None, detail: str) -> None:
    """Each report gives the verdict of the vendor's thresholds and the lost sectors."""
    assert read(json.dumps(report).encode(), 77) == DiskHealth(verdict, temperature, detail, 77)


@pytest.mark.parametrize("field", ["critical_warning", "media_errors", "percentage_used"])
def test_a_field_that_a_drive_does_not_report(field: str) -> None:
    """A missing value of an NVMe drive's log is taken for 0, and the others count."""
    report = reports.nvme(warning=4, media_errors=3, used=104)
    del report["nvme_smart_health_information_log"][field]
    assert read(json.dumps(report).encode(), 1).verdict is (
        DiskVerdict.WORN if field == "critical_warning" else DiskVerdict.FAILING
    )


@pytest.mark.parametrize("output", [b"", b"smartctl: not found", b"[1, 2]", b'{"smart_status": 5}', b"\xff{", b"null"])
def test_invalid_reports_are_unknown(output: bytes) -> None:
    """An invalid report gives no verdict."""
    assert read(output, 1).verdict is DiskVerdict.UNKNOWN


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["smart_status", "passed", "ata_smart_attributes", "table", "id", "raw", "value", "when_failed",
             "nvme_smart_health_information_log", "critical_warning", "temperature", "current", "smartctl", "messages"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(_json)
def test_any_report(report: Any) -> None:
    """For any JSON there is a verdict, and its lines are parsed back."""
    found = read(json.dumps(report).encode(), 1)
    lines = dict(line.split(": ", 1) for line in found.lines().splitlines())
    again = DiskHealth.read(lines)
    assert again is not None
    assert (again.verdict, again.temperature, again.checked_at) == (found.verdict, found.temperature, 1)
