"""The alert rules and the dashboard that are shipped: promtool accepts them, each alert fires for its fault only."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tawara.model.health_codes import HealthCode

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/tawara.rules.yml"
DASHBOARD = ROOT / "deploy/grafana/tawara.json"
PROMTOOL = ROOT / ".promtool/promtool"
LONG = "1x1500"
"""A constant series of 25 hours."""
AT = 'instance="a:1",job="tawara"'
NOTES = frozenset(
    {HealthCode.DEVICE_DRAINING, HealthCode.DEVICE_READONLY, HealthCode.DEVICE_RETURNED, HealthCode.DEVICE_TRUSTED}
)
"""Codes of findings that are never worse than a note, for which there is no alert."""

MISSING = "TawaraStoreMetricsMissing"
STATUS = "tawara_store_health_status"

FAULTS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "TawaraTargetDown": ({f"up{{{AT}}}": "0x1500"}, {f"up{{{AT}}}": LONG}),
    "TawaraNotReady": ({f"tawara_ready{{{AT}}}": "0x1500"}, {f"tawara_ready{{{AT}}}": LONG}),
    "TawaraDatabaseDown": ({f"tawara_database_up{{{AT}}}": "0x1500"}, {f"tawara_database_up{{{AT}}}": LONG}),
    MISSING: ({}, {f"{STATUS}{{{AT}}}": "0x1500"}),
    "TawaraTrackerErrors": (
        {
            f'tawara_tracker_requests_total{{{AT},result="db"}}': "0+10x1500",
            f'tawara_tracker_requests_total{{{AT},result="ok"}}': "0+90x1500",
        },
        {
            f'tawara_tracker_requests_total{{{AT},result="unknown_key"}}': "0+10x1500",
            f'tawara_tracker_requests_total{{{AT},result="ok"}}': "0+90x1500",
        },
    ),
    "TawaraGatewayErrors": (
        {
            f'tawara_gateway_requests_total{{{AT},code="503"}}': "0+10x1500",
            f'tawara_gateway_requests_total{{{AT},code="200"}}': "0+90x1500",
        },
        {
            f'tawara_gateway_requests_total{{{AT},code="404"}}': "0+10x1500",
            f'tawara_gateway_requests_total{{{AT},code="200"}}': "0+90x1500",
        },
    ),
    "TawaraNodeErrors": (
        {f'tawara_node_requests_total{{{AT},code="507"}}': "0+10x1500"},
        {f'tawara_node_requests_total{{{AT},code="404"}}': "0+10x1500"},
    ),
    "TawaraTrackerSlow": (
        {
            f'tawara_tracker_request_duration_seconds_bucket{{{AT},command="get_paths",le="1.0"}}': "0+50x1500",
            f'tawara_tracker_request_duration_seconds_bucket{{{AT},command="get_paths",le="2.5"}}': "0+100x1500",
            f'tawara_tracker_request_duration_seconds_bucket{{{AT},command="get_paths",le="+Inf"}}': "0+100x1500",
        },
        {
            f'tawara_tracker_request_duration_seconds_bucket{{{AT},command="get_paths",le="0.001"}}': "0+100x1500",
            f'tawara_tracker_request_duration_seconds_bucket{{{AT},command="get_paths",le="+Inf"}}': "0+100x1500",
        },
    ),
    "TawaraNodeDeviceUnusable": (
        {f'tawara_node_device_usable{{{AT},device="dev1"}}': "0x1500"},
        {f'tawara_node_device_usable{{{AT},device="dev1"}}': LONG},
    ),
    "TawaraWorkerFailures": (
        {f'tawara_worker_failed_total{{{AT},work="replicate"}}': "0+60x1500"},
        {f'tawara_worker_failed_total{{{AT},work="replicate"}}': "0+1x1500"},
    ),
    "TawaraOpenFilesNearLimit": (
        {f"process_open_fds{{{AT}}}": "900x1500", f"process_max_fds{{{AT}}}": "1000x1500"},
        {f"process_open_fds{{{AT}}}": "100x1500", f"process_max_fds{{{AT}}}": "1000x1500"},
    ),
    "TawaraRestarts": (
        {f"process_start_time_seconds{{{AT}}}": "0+60x1500"},
        {f"process_start_time_seconds{{{AT}}}": LONG},
    ),
}
"""Alert -> series of its fault, and series without it, a minute between two samples."""


def alert_of(code: HealthCode) -> str:
    """The name of the alert of a health code."""
    return "Tawara" + "".join(each.capitalize() for each in code.split("_"))


def faults() -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """FAULTS, and the faults of all health codes."""
    found = dict(FAULTS)
    for code in set(HealthCode) - NOTES:
        series = f'tawara_store_health{{{AT},code="{code}",severity="%s",muted="%s"}}'
        found[alert_of(code)] = (
            {series % ("warning", "0"): LONG},
            {series % ("warning", "1"): LONG, series % ("note", "0"): LONG},
        )
    return found


def _case(series: Mapping[str, str], expected: Mapping[str, Sequence[int]]) -> dict[str, object]:
    """A test of promtool: with `series`, the number of firing alerts by name; () for none."""
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": "25h",
                "exp_samples": [{"labels": "{}", "value": each} for each in values],
            }
            for alert, values in expected.items()
        ],
    }


def test_every_alert_fires_for_its_fault_only(tmp_path: Path) -> None:
    """Promtool accepts the rules; each alert fires while its fault lasts, and not for a mute or without the fault."""
    assert PROMTOOL.exists(), "bin/setup-tests unpacks promtool"
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    cases = faults()
    assert sorted(alerts) == sorted(cases)
    faulty = {name: values for series, _ in cases.values() for name, values in series.items()}
    healthy = {name: values for _, series in cases.values() for name, values in series.items()}
    without = {name: values for name, values in healthy.items() if not name.startswith("tawara_store")}
    firing = {alert: {MISSING: ()}.get(alert, (1,)) for alert in alerts}
    tests = [_case(faulty | {f"{STATUS}{{{AT}}}": "2x1500"}, firing), _case(healthy, dict.fromkeys(alerts, ()))]
    tests.append(_case(without, {MISSING: (1,)}))
    described = tmp_path / "tests.yml"
    described.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "30m", "tests": tests}))
    for arguments in (["check", "rules", str(RULES)], ["test", "rules", str(described)]):
        done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [RULES, DASHBOARD], ids=["rules", "dashboard"])
def test_only_existing_metrics_are_used(path: Path) -> None:
    """Every metric that a rule or panel names is one that the daemons give."""
    source = "".join(each.read_text() for each in (ROOT / "src/tawara/monitoring").glob("*metrics.py"))
    suffix = re.compile(r"_(total|bucket)$")
    for name in set(re.findall(r"\btawara_[a-z_]+\b", path.read_text())) - {"tawara_scrub_period", "tawara_rate_scrub"}:
        stem = suffix.sub("", name).removesuffix("_requests").removesuffix("_request_duration_seconds")
        assert f'"{stem}"' in source, name
