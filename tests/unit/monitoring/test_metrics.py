"""The text of metrics."""

from __future__ import annotations

from tawara.instruments import RequestMeter
from tawara.monitoring.metrics import merge, render, request_families


def test_counts_and_durations() -> None:
    """Requests are a counter by operation and result; durations a histogram whose buckets are cumulative."""
    meter = RequestMeter()
    meter.record("get_paths", "ok", 0.002)
    meter.record("get_paths", "unknown_key", 0.2)
    text = render(request_families("t", [("", meter)], label="command", result="result")).decode()
    assert 't_requests_total{command="get_paths",result="unknown_key"} 1.0' in text
    assert 't_request_duration_seconds_bucket{command="get_paths",le="0.001"} 0.0' in text
    assert 't_request_duration_seconds_bucket{command="get_paths",le="0.0025"} 1.0' in text
    assert 't_request_duration_seconds_bucket{command="get_paths",le="+Inf"} 2.0' in text
    assert 't_request_duration_seconds_count{command="get_paths"} 2.0' in text


def test_processes_are_told_apart() -> None:
    """The metrics of several processes are one text: each family once, each sample with its process."""
    meter = RequestMeter()
    meter.record("get_paths", "ok", 0.002)
    one = render(request_families("t", [("", meter)], label="command", result="result")).decode()
    text = merge([("0", one), ("1", one), ("2", "")]).decode()
    assert text.count("# TYPE t_requests_total counter") == 1
    assert text.count("# TYPE t_request_duration_seconds histogram") == 1
    for process in ("0", "1"):
        assert f't_requests_total{{command="get_paths",process="{process}",result="ok"}} 1.0' in text
        assert f't_request_duration_seconds_count{{command="get_paths",process="{process}"}} 1.0' in text
