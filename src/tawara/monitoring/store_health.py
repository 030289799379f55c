"""The state of the store as its trackers report it, and the findings about it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from tawara.client import AsyncClient, DeviceInfo
from tawara.client.maintenance_replies import Absences, ScrubStatus
from tawara.client.status import StoreStatus
from tawara.model import errors
from tawara.model.cluster import Host
from tawara.model.health_codes import Finding, HealthItem, summarise
from tawara.monitoring.findings import (
    find_expiring,
    find_risks,
    find_scrub_problems,
    find_unreachable,
    find_version_difference,
    problems,
)


@dataclass(frozen=True, slots=True)
class StoreHealth:
    """Replies of the trackers, and what follows from them."""

    trackers: Mapping[str, Mapping[str, str]]
    """Address -> statistics; `trouble` if the tracker does not answer."""
    hosts: list[Host]
    devices: list[DeviceInfo]
    store: StoreStatus | None
    """None if the tracker is one of MogileFS."""
    absences: Absences
    scrub: ScrubStatus | None
    """None if the tracker is one of MogileFS, too."""
    findings: list[Finding]
    items: list[HealthItem]
    """The findings by code, with history and mutes."""

    @property
    def wrong(self) -> list[str]:
        """Texts of the findings that need attention."""
        return [text for each in self.items if each.needs_attention for text in each.texts]


async def observe(client: AsyncClient, *, recount: bool = False) -> StoreHealth:
    """Ask the trackers for the state of the store. `recount`: count all files first. Raises TrackerUnreachable, Db."""
    hosts, devices = await client.hosts(), await client.devices()
    addresses = client.trackers()
    told = await asyncio.gather(*(_tracker(client, each) for each in addresses))
    trackers = {f"{host}:{port}": each for (host, port), each in zip(addresses, told, strict=True)}
    try:
        store = await client.store_status(recount=recount)
    except errors.UnknownCommand:
        store = None
    absences, scrub = await _absences(client), await ask_scrub(client)
    found = problems({address: each.get("trouble") for address, each in trackers.items()}, hosts, devices)
    versions = {address: each.get("version", "") for address, each in trackers.items()}
    found += find_version_difference({at: each for at, each in versions.items() if each.startswith("Tawara")})
    found += find_unreachable(absences)
    found += [*find_risks(store), *find_expiring(store.certificates, store.now)] if store else []
    found += find_scrub_problems(scrub) if scrub else []
    settings = await client.settings() if store else {}
    items = summarise(found, settings, store.now if store else 0)
    return StoreHealth(trackers, hosts, devices, store, absences, scrub, found, items)


async def ask_scrub(client: AsyncClient) -> ScrubStatus | None:
    """Ask for the status of the scrub; None from a tracker of MogileFS."""
    try:
        return await client.scrub_status()
    except errors.UnknownCommand:
        return None


async def _absences(client: AsyncClient) -> Absences:
    """Request the unreachable devices; empty from a tracker of MogileFS, which does not track them."""
    try:
        return await client.absences()
    except errors.UnknownCommand:
        return Absences({}, 0, "")


async def _tracker(client: AsyncClient, address: tuple[str, int]) -> dict[str, str]:
    try:
        return await client.tracker_stats(address)
    except errors.TrackerUnreachable as error:
        return {"trouble": error.message}
