"""Fetches a snapshot of the cluster from a tracker, for decisions that the client makes itself."""

from __future__ import annotations

from collections.abc import Iterable

from tawara.client.administration import Administration
from tawara.client.status import NamedGroup
from tawara.model.cluster import Cluster, Device, Domain, Observation, StorageClass
from tawara.model.placement_groups import PlacementGroup, merged


async def snapshot(client: Administration) -> Cluster:
    """Fetch domains, classes, hosts, devices, settings and the monitor's observations. Domains are renumbered."""
    told = await client.devices()
    domains = {
        each.name: Domain(
            dmid,
            each.name,
            {
                classid: StorageClass(classid, one.name, one.mindevcount, one.replpolicy, one.hashtype)
                for classid, one in enumerate(each.classes)
            },
        )
        for dmid, each in enumerate(await client.domains(), 1)
    }
    return Cluster(
        domains=domains,
        hosts={host.hostid: host for host in await client.hosts()},
        devices={
            each.devid: Device(each.devid, each.hostid, each.state, each.weight, each.mb_total, each.mb_used)
            for each in told
        },
        settings=await client.settings(),
        observed={
            each.devid: Observation(
                each.observed, health=each.health, file_system=each.file_system or None, disk=each.disk or None
            )
            for each in told
            if each.observed is not None
        },
    )


def numbered(cluster: Cluster, groups: Iterable[NamedGroup]) -> tuple[PlacementGroup, ...]:
    """Return placement groups with a snapshot's numbers of domains and classes, 0 for deleted ones."""
    found = []
    for each in groups:
        domain = cluster.domains.get(each.domain)
        storage_class = domain.class_named(each.storage_class) if domain else None
        number = (domain.dmid, storage_class.classid) if domain and storage_class else (0, 0)
        found.append(PlacementGroup(*number, each.devids, each.files, each.bytes))
    return merged(found)
