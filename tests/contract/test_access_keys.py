"""Accounts and access keys, each promise on every engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tawara.metadata import access_keys, cluster, merging, rebuilding
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.access.creation import new_key
from tawara.model.access.keys import AccessKey
from tawara.model.errors import AccessKeyExists, AccountExists, NoAccessKey

Opener = Callable[[], Awaitable[Metadata]]


def wanted(name: str, number: int = 1, **options: Any) -> AccessKey:
    given: dict[str, Any] = {
        "key_id": f"TW{number:018}",
        "account_id": f"{number:064x}",
        "sealed": f"K:{number}",
        "now": 1000,
    }
    return new_key(name, **given | options)


async def create(metadata: Metadata, name: str, number: int = 1, **options: Any) -> AccessKey:
    own = not options.get("account")
    return await metadata.write(access_keys.create, wanted(name, number, **options), own_account=own)


async def test_what_was_created_is_found(metadata: Metadata) -> None:
    """A key is found by id and by name with all that it was given; other names and ids are of no key."""
    made = await create(metadata, "app", domains=["photos/é=rw", "logs-*=r"], expires="90d")
    assert await metadata.read(access_keys.find, made.id) == made
    assert await metadata.read(access_keys.find_named, "app") == made
    assert await metadata.read(access_keys.find_named, made.id) == made
    assert await metadata.read(access_keys.find, made.id.lower()) is None
    assert await metadata.read(access_keys.find, "") is None
    with pytest.raises(NoAccessKey):
        await metadata.read(access_keys.find_named, "App")


async def test_accounts(metadata: Metadata) -> None:
    """A key has an account of its own, or shares a named one, which is created by its first key."""
    await create(metadata, "one", 1)
    first = await create(metadata, "two", 2, account="office")
    second = await create(metadata, "three", 3, account="office")
    assert second.account == first.account
    assert [each.account.name for each in await metadata.read(access_keys.list_all)] == ["one", "office", "office"]
    with pytest.raises(AccountExists):
        await create(metadata, "office", 4)
    for name, number in (("one", 5), ("five", 1)):
        with pytest.raises(AccessKeyExists):
            await create(metadata, name, number, account="office")


async def test_one_of_many_gets_a_name(opener: Opener) -> None:
    """Of two administrators who create a key of one name at the same time one succeeds."""
    opened = [await opener() for _ in range(4)]
    creating = (create(each, "app", number) for number, each in enumerate(opened, 1))
    results = await asyncio.gather(*creating, return_exceptions=True)
    assert sum(isinstance(each, AccessKey) for each in results) == 1
    assert all(isinstance(each, AccessKey | AccessKeyExists) for each in results), results


async def test_a_revoked_key_stays(metadata: Metadata) -> None:
    """A revoked key keeps the time of its first revocation, and its name."""
    made = await create(metadata, "app")
    assert (await metadata.write(access_keys.revoke, "app", now=2000)).revoked_at is None
    assert (await metadata.write(access_keys.revoke, made.id, now=3000)).revoked_at == 2000
    assert (await metadata.read(access_keys.find_named, "app")).revoked_at == 2000
    with pytest.raises(AccessKeyExists):
        await create(metadata, "app", 2)
    with pytest.raises(NoAccessKey):
        await metadata.write(access_keys.revoke, "none", now=2000)


async def test_days_of_use(metadata: Metadata) -> None:
    """The last day of use is kept, whatever the order in which two servers report."""
    made = await create(metadata, "app")
    for day in (20_000, 19_999):
        await metadata.write(access_keys.record_use, made.id, day)
        found = await metadata.read(access_keys.find, made.id)
        assert found is not None
        assert found.used_on == 20_000


async def test_grants_that_are_not_understood_allow_nothing(metadata: Metadata) -> None:
    """A row whose grants cannot be parsed is a key without grants."""

    async def spoil(tx: Transaction, text: str) -> None:
        await tx.run("UPDATE tawara_access_key SET grants = ?", text)

    made = await create(metadata, "app", admin=True)
    for text in ("", "{", "[1]", '["photos=rw", "photos=z"]', '"*=rwa"'):
        await metadata.write(spoil, text)
        found = await metadata.read(access_keys.find, made.id)
        assert found is not None
        assert found.grants == (), text


async def test_resealing_is_whole_or_not_at_all(metadata: Metadata) -> None:
    """Secrets of all keys in use are replaced, or none; those of revoked keys are left."""
    for number, name in enumerate(("one", "two", "three"), 1):
        await create(metadata, name, number)
    await metadata.write(access_keys.revoke, "two", now=2000)

    def fail(key: AccessKey) -> str:
        if key.name == "three":
            return f"new {key.sealed}"
        raise ValueError(key.name)

    with pytest.raises(ValueError, match="one"):
        await metadata.write(access_keys.reseal, fail)
    assert [each.sealed for each in await metadata.read(access_keys.list_all)] == ["K:1", "K:3", "K:2"]
    assert await metadata.write(access_keys.reseal, lambda key: f"new {key.sealed}") == 2
    assert [each.sealed for each in await metadata.read(access_keys.list_all)] == ["new K:1", "new K:3", "K:2"]


async def test_the_manifest_brings_them_back(metadata: Metadata) -> None:
    """Accounts and keys of the manifest are restored as they were, and a change of them is counted."""
    assert await metadata.read(access_keys.dump) == {}
    counts = [await metadata.read(cluster.get_setting, access_keys.CHANGES)]
    for number, name in enumerate(("one", "two"), 1):
        await create(metadata, name, number, domains=[f"{name}=r"], expires="1d", account="office")
        counts.append(await metadata.read(cluster.get_setting, access_keys.CHANGES))
    await metadata.write(access_keys.revoke, "two", now=2000)
    counts.append(await metadata.read(cluster.get_setting, access_keys.CHANGES))
    assert len(set(counts)) == 4
    before, manifest = await metadata.read(access_keys.list_all), await metadata.read(access_keys.dump)
    await metadata.write(_empty)
    await metadata.write(rebuilding.finish, manifest, highest_fid=0)
    assert await metadata.read(access_keys.list_all) == before
    assert await metadata.write(merging.add_manifest, manifest) == []
    assert await metadata.read(access_keys.list_all) == before


async def test_an_older_database_does_not_revive_a_key(metadata: Metadata) -> None:
    """Merging adds keys that the database has lost and revokes those that were revoked since; it changes no others."""
    await create(metadata, "one", 1)
    manifest = await metadata.read(access_keys.dump)
    row = manifest["tawara_access_key"][0]
    manifest["tawara_access_key"] = [
        row | {"revoked_at": 2000, "grants": '["*=rwa"]'},
        row | {"id": "TW" + "7" * 18, "name": "two"},
    ]
    assert await metadata.write(merging.add_manifest, manifest) == ["access key two"]
    one, two = await metadata.read(access_keys.list_all)
    assert (one.revoked_at, one.grants) == (2000, ())
    assert (two.revoked_at, two.account) == (None, one.account)


async def _empty(tx: Transaction) -> None:
    for table in access_keys.TABLES:
        await tx.run(f"DELETE FROM {table}")
