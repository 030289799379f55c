"""Metrics of one process in the form of Prometheus, from the counters that its components keep.

Labels come from closed sets, and from devices and hosts; never from keys, clients or names that clients choose.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from tawara import __version__
from tawara.instruments import BUCKETS, RequestMeter
from tawara.monitoring.components import MonitoredComponents

if TYPE_CHECKING:
    from tawara.node.server import StorageNode
    from tawara.tracker.server import TrackerServer
    from tawara.workers.service import Workers

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _Families(Collector):
    """Families that were made already, as a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def render(families: Iterable[Metric]) -> bytes:
    """Return families in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    return generate_latest(registry)


def render_process(components: MonitoredComponents, *, database: bool, ready: bool, lag: float) -> bytes:
    """Return the metrics of this process. `lag`: seconds by which the event loop is late."""
    families: list[Metric] = [_info(), _gauge("tawara_ready", "Whether the process should get requests", ready)]
    families.append(_gauge("tawara_event_loop_lag_seconds", "Delay of the event loop at this scrape", lag))
    if components.metadata is not None:
        families.append(_gauge("tawara_database_up", "Whether the database answers within a second", database))
    families += ProcessCollector(registry=None).collect()
    if components.tracker is not None:
        families += _tracker(components.tracker)
    if components.node is not None:
        families += _node(components.node)
    if components.workers is not None:
        families += _workers(components.workers)
    families += _gateways(components)
    return render(families)


def merge(texts: Iterable[tuple[str, str]]) -> bytes:
    """Merge the metrics of several processes, (process, text) each; every sample gets the label `process`."""
    merged: dict[str, Metric] = {}
    for process, text in texts:
        for family in text_string_to_metric_families(text):
            target = merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                target.add_sample(sample.name, {**sample.labels, "process": process}, sample.value)
    return render(merged.values())


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=float(value))


def _info() -> GaugeMetricFamily:
    family = GaugeMetricFamily("tawara_build_info", "Version of the program", labels=["version", "python"])
    family.add_metric([__version__, platform.python_version()], 1.0)
    return family


def request_families(
    prefix: str, meters: Iterable[tuple[str, RequestMeter]], *, label: str, result: str, extra: str = ""
) -> Iterator[Metric]:
    """Return requests and durations of `meters`, (value of the label `extra`, meter) each."""
    more = [extra] if extra else []
    requests = CounterMetricFamily(f"{prefix}_requests", "Answered requests", labels=[*more, label, result])
    durations = HistogramMetricFamily(
        f"{prefix}_request_duration_seconds", "Time from a request to its answer", labels=[*more, label]
    )
    for name, meter in meters:
        value = [name] if extra else []
        for (operation, outcome), number in sorted(meter.counts.items()):
            requests.add_metric([*value, operation, outcome], number)
        for operation, histogram in sorted(meter.durations.items()):
            cumulated, total = [], 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), histogram.buckets, strict=True):
                total += count
                cumulated.append((bound, float(total)))
            durations.add_metric([*value, operation], buckets=cumulated, sum_value=histogram.seconds)
    return iter((requests, durations))


def _tracker(tracker: TrackerServer) -> Iterator[Metric]:
    yield from request_families("tawara_tracker", [("", tracker.meter)], label="command", result="result")
    yield _gauge("tawara_tracker_requests_in_flight", "Requests that run", tracker.journal.running)
    yield _gauge("tawara_tracker_connections", "Open connections of clients", tracker.connections)


def _node(node: StorageNode) -> Iterator[Metric]:
    if node.meter is not None:
        yield from request_families("tawara_node", [("", node.meter)], label="method", result="code")
    size = GaugeMetricFamily("tawara_node_device_size_bytes", "Size of a device", labels=["device"])
    free = GaugeMetricFamily("tawara_node_device_free_bytes", "Free space of a device", labels=["device"])
    usable = GaugeMetricFamily("tawara_node_device_usable", "Whether a device can be used", labels=["device"])
    errors = CounterMetricFamily("tawara_node_device_errors", "Failed regular checks of a device", labels=["device"])
    for device, found in sorted(node.observed.items()):
        size.add_metric([device], found.size)
        free.add_metric([device], found.free)
        usable.add_metric([device], float(found.usable and not found.hangs))
        errors.add_metric([device], found.errors)
    yield from (size, free, usable, errors)


def _workers(workers: Workers) -> Iterator[Metric]:
    done = CounterMetricFamily("tawara_worker_done", "Finished units of work", labels=["work"])
    failed = CounterMetricFamily("tawara_worker_failed", "Failed units of work", labels=["work"])
    busy = CounterMetricFamily("tawara_worker_busy_seconds", "Time with work in progress", labels=["work"])
    working = GaugeMetricFamily("tawara_worker_in_progress", "Units of work in progress", labels=["work"])
    for each in workers.status():
        done.add_metric([each.name], each.done)
        failed.add_metric([each.name], each.failed)
        busy.add_metric([each.name], each.busy)
        working.add_metric([each.name], each.working)
    yield from (done, failed, busy, working)
    yield CounterMetricFamily("tawara_worker_copied_bytes", "Bytes of copies made", value=workers.copied_bytes)


def _gateways(components: MonitoredComponents) -> Iterator[Metric]:
    meters = [(protocol, found) for protocol, meter in components.gateways.items() if (found := meter()) is not None]
    if meters:
        yield from request_families("tawara_gateway", meters, label="method", result="code", extra="protocol")
