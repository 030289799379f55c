"""Metrics of the whole store, from what `tawara status` shows: the same from every tracker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from tawara.client import DeviceInfo
from tawara.client.maintenance_replies import ScrubStatus
from tawara.client.status import StoreStatus
from tawara.model.cluster import DeviceState, Host, Observed
from tawara.model.health_codes import HealthItem
from tawara.monitoring.metrics import render
from tawara.monitoring.store_health import StoreHealth

_RISKS: Final = {
    "lost": "lost",
    "unreadable": "unreadable",
    "one_failure_from_loss": "one_disk",
    "on_one_host": "one_host",
    "below_policy": "unsatisfied",
}
"""Value of the label `risk` -> field of Safety."""


def render_store(seen: StoreHealth) -> bytes:
    """Return the metrics of the store in the text format."""
    families = [*_health(seen.items), *_devices(seen.devices, seen.hosts)]
    if seen.store is not None:
        families += _files(seen.store)
    if seen.scrub is not None:
        families += _scrub(seen.scrub)
    return render(families)


def _health(items: Sequence[HealthItem]) -> Iterator[Metric]:
    health = GaugeMetricFamily(
        "tawara_store_health", "1 for each health code that is found", labels=["code", "severity", "muted"]
    )
    for each in items:
        health.add_metric([each.code, each.severity, "1" if each.muted_until is not None else "0"], 1.0)
    worst = max((each.severity.rank for each in items if each.needs_attention), default=0)
    yield health
    yield GaugeMetricFamily("tawara_store_health_status", "0 well, 1 warning, 2 critical; without mutes", value=worst)


def _devices(devices: Sequence[DeviceInfo], hosts: Sequence[Host]) -> Iterator[Metric]:
    labels, names = ["device", "host"], {each.hostid: each.name for each in hosts}
    up = GaugeMetricFamily("tawara_store_device_up", "Whether a device that is not dead can be read", labels=labels)
    size = GaugeMetricFamily("tawara_store_device_size_bytes", "Size of a device", labels=labels)
    used = GaugeMetricFamily("tawara_store_device_used_bytes", "Used space of a device", labels=labels)
    for each in devices:
        if each.state is DeviceState.DEAD:
            continue
        values = [f"dev{each.devid}", names.get(each.hostid, "")]
        up.add_metric(values, float(each.observed in (Observed.READABLE, Observed.WRITEABLE)))
        if each.mb_total is not None and each.mb_used is not None:
            size.add_metric(values, each.mb_total * 2**20)
            used.add_metric(values, each.mb_used * 2**20)
    yield from (up, size, used)


def _files(store: StoreStatus) -> Iterator[Metric]:
    safety = store.safety
    yield GaugeMetricFamily("tawara_store_files", "Files", value=safety.files)
    yield GaugeMetricFamily("tawara_store_bytes", "Bytes of one copy of each file", value=safety.bytes)
    risk = GaugeMetricFamily("tawara_store_files_at_risk", "Files by risk", labels=["risk"])
    for name, field in _RISKS.items():
        risk.add_metric([name], getattr(safety, field).files)
    yield risk
    yield GaugeMetricFamily("tawara_store_counted_timestamp_seconds", "When files were counted", value=store.counted_at)
    queued = GaugeMetricFamily("tawara_store_queue_files", "Files that wait for work", labels=["queue", "state"])
    oldest = GaugeMetricFamily(
        "tawara_store_queue_oldest_seconds", "Wait of the first file that is due", labels=["queue"]
    )
    for queue in store.queues:
        for state in ("due", "later", "stuck"):
            queued.add_metric([queue.name, state], getattr(queue, state))
        oldest.add_metric([queue.name], queue.age(store.now) or 0)
    yield from (queued, oldest)
    yield GaugeMetricFamily("tawara_store_worker_processes", "Processes of workers", value=store.processes)
    expires = GaugeMetricFamily(
        "tawara_store_certificate_expires_timestamp_seconds", "When a TLS certificate expires", labels=["listener"]
    )
    for each in store.certificates:
        expires.add_metric([each.listener], each.expires)
    yield expires


def _scrub(scrub: ScrubStatus) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "tawara_store_scrub_period_seconds", "Time to read every byte once; 0: off", value=scrub.period
    )
    yield GaugeMetricFamily(
        "tawara_store_scrub_bad_replicas", "Replicas that went bad lately", value=scrub.bad_replicas
    )
