"""Accounts and access keys (`tawara_account`, `tawara_access_key`).

Rows are never deleted: the name and id of a revoked key are not used again. Secrets are stored sealed
(wire.installation_key). Each function is one transaction; see `contract`. Times are unix seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from tawara.metadata import cluster
from tawara.metadata.contract import Row, Transaction
from tawara.model.access import grants
from tawara.model.access.grants import Grant
from tawara.model.access.keys import AccessKey, Account
from tawara.model.errors import AccessKeyExists, AccountExists, InvalidGrant, NoAccessKey

CHANGES: Final = "tawara_access_changes"
"""Setting: counter of changes of accounts, keys and buckets, so that a process knows when to read them again."""
_SELECT: Final = (
    "SELECT k.id, k.name, a.id, a.name, k.grants, k.created_at, k.expires_at, k.revoked_at, k.used_on, k.sealed"
    " FROM tawara_access_key k JOIN tawara_account a ON a.id = k.account"
)
TABLES: Final = ("tawara_account", "tawara_access_key")
_COLUMNS: Final = {
    "tawara_account": ("id", "name", "created_at"),
    "tawara_access_key": (
        "id", "name", "account", "sealed", "grants", "created_at", "expires_at", "revoked_at",
    ),
}  # fmt: skip
"""Columns that are kept on the devices, too."""


async def create(tx: Transaction, key: AccessKey, *, own_account: bool) -> AccessKey:
    """Insert an access key; return it with its account.

    With `own_account` the account is created, else an existing one of that name is used. Raises AccessKeyExists, and
    AccountExists for an existing account with `own_account`.
    """
    await cluster.serialise(tx)
    if await tx.row("SELECT 1 FROM tawara_access_key WHERE name = ? OR id = ?", key.name, key.id) is not None:
        raise AccessKeyExists(f"An access key named {key.name} exists already")
    account = key.account
    found = await tx.row("SELECT id FROM tawara_account WHERE name = ?", account.name)
    if found is not None and own_account:
        raise AccountExists(f"An account named {account.name} exists already")
    if found is not None:
        account = Account(found[0], account.name)
    else:
        await tx.run(
            "INSERT INTO tawara_account (id, name, created_at) VALUES (?, ?, ?)",
            *(account.id, account.name, key.created_at),
        )
    await tx.run(
        "INSERT INTO tawara_access_key (id, name, account, sealed, grants, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        *(key.id, key.name, account.id, key.sealed, _encode(key.grants), key.created_at, key.expires_at),
    )
    await count_change(tx)
    return replace(key, account=account)


async def find(tx: Transaction, key_id: str) -> AccessKey | None:
    """Return the access key with this id, in whatever state; None if no key has it."""
    row = await tx.row(f"{_SELECT} WHERE k.id = ?", key_id)
    return None if row is None else _key(row)


async def find_named(tx: Transaction, name: str) -> AccessKey:
    """Return the access key with this name or id. Raises NoAccessKey."""
    row = await tx.row(f"{_SELECT} WHERE k.name = ? OR k.id = ?", name, name)
    if row is None:
        raise NoAccessKey(f"No access key is named {name}")
    return _key(row)


async def list_all(tx: Transaction) -> list[AccessKey]:
    """Return all access keys by name, revoked and expired ones included."""
    return [_key(row) for row in await tx.rows(f"{_SELECT} ORDER BY k.name")]


async def revoke(tx: Transaction, name: str, *, now: int) -> AccessKey:
    """Revoke the access key with this name or id; return it as it was before. Raises NoAccessKey."""
    await cluster.serialise(tx)
    key = await find_named(tx, name)
    if key.revoked_at is None:
        await tx.run("UPDATE tawara_access_key SET revoked_at = ? WHERE id = ?", now, key.id)
        await count_change(tx)
    return key


async def record_use(tx: Transaction, key_id: str, day: int) -> None:
    """Record that a key was used on a day (days since 1970-01-01)."""
    await tx.run(
        "UPDATE tawara_access_key SET used_on = ? WHERE id = ? AND (used_on IS NULL OR used_on < ?)", day, key_id, day
    )


async def reseal(tx: Transaction, seal_again: Callable[[AccessKey], str]) -> int:
    """Replace the sealed secrets of all keys that are not revoked; return how many. Raises what `seal_again` raises."""
    await cluster.serialise(tx)
    count = 0
    for key in await list_all(tx):
        if key.revoked_at is None:
            await tx.run("UPDATE tawara_access_key SET sealed = ? WHERE id = ?", seal_again(key), key.id)
            count += 1
    await count_change(tx)
    return count


# --- the cluster manifest ---------------------------------------------------------------------------------------------


async def dump(tx: Transaction) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of both tables for the cluster manifest, by table; nothing without accounts."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for table in TABLES:
        columns = _COLUMNS[table]
        rows = await tx.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id")
        if rows:
            tables[table] = [dict(zip(columns, row, strict=True)) for row in rows]
    return tables


async def take_in(tx: Transaction, manifest: Mapping[str, Any]) -> list[str]:
    """Insert accounts and keys of a manifest that this database lacks; return descriptions of those inserted.

    A key that the manifest says is revoked becomes so here: an older database must not make it valid again.
    """
    added: list[str] = []
    for table in TABLES:
        for row in manifest.get(table, ()):
            values = {column: row.get(column) for column in _COLUMNS[table]}
            known = await tx.row(f"SELECT id FROM {table} WHERE id = ? OR name = ?", values["id"], values["name"])
            if known is None:
                marks = ", ".join("?" * len(values))
                await tx.run(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())
                added.append(f"{table.removeprefix('tawara_').replace('_', ' ')} {values['name']}")
            elif table == "tawara_access_key" and values["revoked_at"] is not None:
                await tx.run(
                    "UPDATE tawara_access_key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
                    *(values["revoked_at"], values["id"]),
                )
    if any(manifest.get(table) for table in TABLES):
        await count_change(tx)
    return added


# --- rows -------------------------------------------------------------------------------------------------------------


def _key(row: Row) -> AccessKey:
    key_id, name, account, account_name, encoded, created_at, expires_at, revoked_at, used_on, sealed = row
    return AccessKey(
        id=key_id,
        name=name,
        account=Account(account, account_name),
        grants=_decode(encoded),
        created_at=created_at,
        expires_at=expires_at,
        revoked_at=revoked_at,
        used_on=used_on,
        sealed=sealed,
    )


def _encode(given: Sequence[Grant]) -> str:
    return msgspec.json.encode([str(each) for each in given]).decode()


def _decode(text: str) -> tuple[Grant, ...]:
    """Decode grants; a text that this program does not understand grants nothing."""
    try:
        return tuple(grants.parse(each) for each in msgspec.json.decode(text, type=list[str]))
    except (msgspec.MsgspecError, InvalidGrant):
        return ()


async def count_change(tx: Transaction) -> None:
    """Count a change of what the cluster manifest has besides the configuration: accounts, keys, buckets."""
    count = await cluster.get_setting(tx, CHANGES)
    await cluster.set_setting(tx, CHANGES, str(int(count or "0") + 1))
