"""How uploads are kept from expiring while their body arrives."""

from __future__ import annotations

import asyncio

import pytest

from tawara.model.errors import DatabaseUnavailable
from tawara.store import uploads
from tests.unit.store.fake_store import DEFAULT, DOMAIN, FakeStore


async def test_a_long_upload_is_renewed_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload is renewed again and again, also after the database has failed, and no more once it has ended."""
    monkeypatch.setattr(uploads, "_RENEWAL", 0.005)
    fake = FakeStore()
    async with fake.store.uploads.session(DOMAIN, b"k", DEFAULT, (1, 2)) as upload:
        while len(fake.metadata.renewed) < 2:
            await asyncio.sleep(0)
        fake.metadata.failure = DatabaseUnavailable("gone")
        await asyncio.sleep(0.02)
        fake.metadata.failure = None
        renewed = len(fake.metadata.renewed)
        while len(fake.metadata.renewed) == renewed:
            await asyncio.sleep(0)
        assert set(fake.metadata.renewed) == {upload.fid}
    renewed = len(fake.metadata.renewed)
    await asyncio.sleep(0.02)
    assert len(fake.metadata.renewed) == renewed


async def test_a_short_upload_is_not_renewed() -> None:
    """An upload that ends at once costs no renewal, and leaves no task behind."""
    fake = FakeStore()
    tasks = asyncio.all_tasks()
    async with fake.store.uploads.session(DOMAIN, b"k", DEFAULT, (1, 2)):
        assert asyncio.all_tasks() == tasks
    assert fake.metadata.renewed == []
