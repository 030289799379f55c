"""A few faults in a whole cluster under load; `make probe` runs all of them and reports more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

FAULTS = ("a tracker is killed", "workers are killed", "nginx is killed")


@pytest.mark.timeout(900)
def test_faults_under_load() -> None:
    """Acknowledged files exist with their copies, and neither the store nor the probe leaves anything over."""
    probing = subprocess.run(
        [sys.executable, "-m", "tests.probe.cluster", "--json", *FAULTS],
        capture_output=True, text=True, timeout=800, check=False,
    )  # fmt: skip
    results = [json.loads(line) for line in probing.stdout.splitlines()]
    assert probing.returncode == 0, (results, probing.stderr[-3000:])
    assert [each["fault"] for each in results] == list(FAULTS)
    assert all(each["stored"] > 50 and each["rate"] > 0 for each in results if not each["skipped"])
