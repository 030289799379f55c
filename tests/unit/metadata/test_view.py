"""How a process learns of domains and classes that another process has created."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from tawara.metadata import view as module
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.model.cluster import Domain, StorageClass
from tawara.model.errors import DatabaseUnavailable
from tests.unit.store.fake_store import FakeMetadata, cluster

CLASS = StorageClass(1, "photos", 2)


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_UNKNOWN_NAME_INTERVAL", 0.01)


def stale_view() -> tuple[ClusterView, FakeMetadata]:
    """A view, and a database in which another process has created the domain `new` with the class `photos`."""
    metadata = FakeMetadata()
    view = ClusterView(cast(Metadata, metadata))
    view.current = cluster()
    domain = Domain(2, "new", {1: CLASS})
    metadata.cluster = replace(metadata.cluster, domains=dict(metadata.cluster.domains) | {"new": domain})
    return view, metadata


@pytest.mark.parametrize("name", [("new", ""), ("new", "photos")])
async def test_a_name_that_another_process_created_is_found(name: tuple[str, str]) -> None:
    """A domain or class that exists in the database is found, though the view was read before."""
    view, _ = stale_view()
    found = await view.refresh_for_name(*name)
    assert found.has_name(*name)


async def test_a_known_name_costs_no_read() -> None:
    """A domain that the view has is answered from it."""
    view, metadata = stale_view()
    await view.refresh_for_name("d")
    assert metadata.cluster_reads == 0


async def test_a_flood_of_unknown_names_costs_few_reads() -> None:
    """Requests for unknown names at the same time share a read, and each has one that began after it."""
    view, metadata = stale_view()
    await asyncio.gather(*(view.refresh_for_name(f"unknown{number}") for number in range(100)))
    assert metadata.cluster_reads == 1
    await view.refresh_for_name("unknown")
    assert metadata.cluster_reads == 2


async def test_an_unavailable_database_is_reported_to_all() -> None:
    """While the database fails, an unknown name is not reported as missing."""
    view, metadata = stale_view()
    metadata.failure = DatabaseUnavailable("gone")
    results = await asyncio.gather(*(view.refresh_for_name("new") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in results] == [DatabaseUnavailable] * 3
    metadata.failure = None
    assert (await view.refresh_for_name("new")).has_name("new")
