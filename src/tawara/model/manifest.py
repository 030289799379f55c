"""The cluster manifest, on every device: domains, classes, hosts, devices, settings, keys, buckets as plain values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tawara.model.cluster import Cluster

_PASSING = re.compile(
    r"fsck_(?!checksum$).*|rebal_.*|(tawara_)?schema_version|tawara_(names_.*|epoch|stale|access_changes|accepted_devices|adopted|changes|widened|founding|.*_turn|rebal_.*)"
)
"""Settings that describe this database or its running work; they are not part of the cluster's configuration."""


def manifest_of(cluster: Cluster, access: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return domains, classes, hosts, devices, settings and `access` (accounts, keys, buckets) as rows of tables."""
    return {
        **(access or {}),
        "domain": [{"dmid": each.dmid, "namespace": each.name} for each in _by(cluster.domains_by_id)],
        "class": [
            {
                "dmid": domain.dmid,
                "classid": each.classid,
                "classname": each.name,
                "mindevcount": each.mindevcount,
                "hashtype": int(each.hashtype) if each.hashtype else None,
                "replpolicy": each.replpolicy,
            }
            for domain in _by(cluster.domains_by_id)
            for each in _by(domain.classes)
        ],
        "host": [
            {
                "hostid": each.hostid,
                "status": each.state.value,
                "http_port": each.http_port,
                "http_get_port": each.http_get_port,
                "hostname": each.name,
                "hostip": each.ip,
                "altip": each.altip,
                "altmask": each.altmask,
            }
            for each in _by(cluster.hosts)
        ],
        "device": [
            {"devid": each.devid, "hostid": each.hostid, "status": each.state.value, "weight": each.weight}
            for each in _by(cluster.devices)
        ],
        "server_settings": [
            {"field": field, "value": value}
            for field, value in sorted(cluster.settings.items())
            if not _PASSING.fullmatch(field)
        ],
    }


def _by(numbered: Any) -> list[Any]:
    return [numbered[number] for number in sorted(numbered)]
