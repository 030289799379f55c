"""`tawara key`: create, list, show and revoke access keys, and replace the key of the installation.

The commands use the database itself, because a tracker's connection is neither authenticated nor encrypted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.database import HERE, Database
from tawara.metadata import access_keys
from tawara.model.access.creation import new_key
from tawara.model.access.keys import AccessKey, KeyState
from tawara.model.errors import ConfigurationError
from tawara.store import key_file as key_files
from tawara.store.key_file import KeyFile, KeyFileMissing
from tawara.store.random_keys import random_id, random_secret
from tawara.wire.installation_key import NONCE, CannotOpen, InstallationKey, open_sealed, seal, sealed_with

app = App(
    name="key",
    help="Create, list, show and revoke access keys. Uses the database itself: secrets never pass a tracker.",
)

KeyFileOption = Annotated[
    Path | None, Parameter(name="--key-file", help="The installation's key file; default: that of the configuration.")
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="One JSON object a line.")]


@app.command
async def create(
    name: str,
    /,
    *,
    account: str = "",
    domain: Annotated[tuple[str, ...], Parameter(name="--domain", negative="")] = (),
    admin: Annotated[bool, Parameter(negative="")] = False,
    expires: str = "",
    json: Json = False,
    key_file: KeyFileOption = None,
    database: Database = HERE,
) -> None:
    """Create an access key, and print its id and its secret, which is shown only now.

    For example:

        tawara key create photo-app --domain photos=rw --domain 'logs-*=r'

        tawara key create importer --domain photos/raw/=w --expires 90d --json

        tawara key create ann --account office --admin

    Parameters
    ----------
    name
        Name of the key.
    account
        Account that owns the key, created if it does not exist; default: an account of the key's own.
    domain
        A grant, DOMAIN=RIGHTS or DOMAIN/PREFIX=RIGHTS; may be repeated. RIGHTS: r read and list, l list only, w store
        and delete, a administer the domain. In DOMAIN, * stands for any characters. Without a grant nothing is allowed.
    admin
        Grant all rights to all domains.
    expires
        Time after which the key is refused: 90d, 12h; default: never.
    """
    file = database.key_file(key_file)
    keys = file.load()
    key_id, secret = random_id(), random_secret()
    async with database.open() as metadata:
        _check_same(await metadata.read(access_keys.list_all), keys, file)
        wanted = new_key(
            name,
            key_id=key_id,
            account_id=secrets.token_hex(32),
            account=account,
            domains=domain,
            admin=admin,
            expires=expires,
            sealed=seal(keys[0], secret, owner=key_id, nonce=secrets.token_bytes(NONCE)),
            now=await metadata.clock.seconds(),
        )
        made = await metadata.write(access_keys.create, wanted, own_account=not account)
    if json:
        described = _described(made)
        output.json_line({"id": described.pop("id"), "secret": secret, **described})
        return
    output.line(f"id      {made.id}")
    output.line(f"secret  {secret}")
    _print_facts(made)
    output.note(
        "The secret is not shown again." + ("" if made.grants else " The key has no grants: it allows nothing.")
    )


@app.command(name=["list", "ls"])
async def show_all(*, json: Json = False, database: Database = HERE) -> None:
    """List the access keys, revoked and expired ones included; never their secrets."""
    async with database.open() as metadata:
        found = await metadata.read(access_keys.list_all)
        now = await metadata.clock.now()
    if json:
        for each in found:
            output.json_line(_described(each) | {"state": each.state(now)})
        return
    output.table(
        ("NAME", "ID", "ACCOUNT", "STATE", "EXPIRES", "LAST USED", "GRANTS"),
        [
            (
                *(each.name, each.id, each.account.name, each.state(now), output.local_time(each.expires_at)),
                *(_day(each.used_on) or "-", output.printable(", ".join(map(str, each.grants))) or "-"),
            )
            for each in found
        ],
    )


@app.command
async def show(name: str, /, *, json: Json = False, database: Database = HERE) -> None:
    """Show an access key, given by name or id; never its secret.

    For example:

        tawara key show photo-app
    """
    async with database.open() as metadata:
        found = await metadata.read(access_keys.find_named, name)
        state = found.state(await metadata.clock.now())
    if json:
        output.json_line(_described(found) | {"state": state})
        return
    output.line(f"id      {found.id}")
    output.line(f"name    {found.name}")
    output.line(f"state   {state}")
    _print_facts(found)
    output.line(f"used    {_day(found.used_on) or '-'}")


@app.command
async def revoke(name: str, /, *, json: Json = False, database: Database = HERE) -> None:
    """Revoke an access key, given by name or id, for ever. Every server refuses it within a second.

    For example:

        tawara key revoke photo-app
    """
    async with database.open() as metadata:
        now = await metadata.clock.seconds()
        before = await metadata.write(access_keys.revoke, name, now=now)
    already = before.state(now) is KeyState.REVOKED
    if json:
        revoked = before if already else replace(before, revoked_at=now)
        output.json_line(_described(revoked) | {"state": KeyState.REVOKED, "already": already})
    elif already:
        output.note(f"{before.name} was revoked before.")


@app.command
async def reseal(
    *,
    new_key: Annotated[bool, Parameter(name="--new-key", negative="")] = False,
    json: Json = False,
    key_file: KeyFileOption = None,
    database: Database = HERE,
) -> None:
    """Seal the secrets again with the first key of the key file.

    To replace the key of an installation: add a new one with --new-key, copy the file to every machine of the store
    (storage nodes first), reseal, then remove all lines but the first from the file everywhere. For example:

        tawara key reseal --new-key

        tawara key reseal

    Parameters
    ----------
    new_key
        Only put a new key at the beginning of the key file, which is created if it does not exist.
    """
    file = database.key_file(key_file)
    if new_key:
        try:
            keys = (key_files.new_key(), *file.load())
        except KeyFileMissing:
            keys = (key_files.new_key(),)
        key_files.write(file.path, keys)
        if json:
            output.json_line({"key_file": str(file.path), "keys": len(keys), "resealed": 0})
        else:
            output.line(f"{file.path} has a new key. Copy it to every machine of the store, then: tawara key reseal")
        return
    keys = file.load()

    def seal_again(key: AccessKey) -> str:
        try:
            secret = open_sealed(keys, key.sealed, owner=key.id)
        except CannotOpen as error:
            raise ConfigurationError(f"The secret of {key.name} cannot be opened with {file.path}: {error}") from None
        return seal(keys[0], secret, owner=key.id, nonce=secrets.token_bytes(NONCE))

    async with database.open() as metadata:
        count = await metadata.write(access_keys.reseal, seal_again)
    if json:
        output.json_line({"key_file": str(file.path), "keys": len(keys), "resealed": count})
    else:
        output.line(f"{count} secrets are sealed with the first key of {file.path}.")


def _check_same(found: Sequence[AccessKey], keys: Sequence[InstallationKey], file: KeyFile) -> None:
    """Raise ConfigurationError if secrets in use were sealed with keys that are not in the file."""
    known = {each.id for each in keys}
    others = [each.name for each in found if each.revoked_at is None and sealed_with(each.sealed) not in known]
    if others:
        raise ConfigurationError(
            f"{file.path} is not the key file with which the secret of {others[0]} was sealed",
            hint="Copy the right key file from another machine of the store, or revoke the keys that are lost.",
        )


def _described(key: AccessKey) -> dict[str, Any]:
    """Return a key as JSON values, without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "account": key.account.name,
        "account_id": key.account.id,
        "grants": [str(each) for each in key.grants],
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "used_on": _day(key.used_on),
    }


def _print_facts(key: AccessKey) -> None:
    output.line(f"account {key.account.name}")
    output.line(f"grants  {output.printable(', '.join(map(str, key.grants))) or '-'}")
    output.line(f"created {output.local_time(key.created_at)}")
    output.line(f"expires {output.local_time(key.expires_at) if key.expires_at else 'never'}")
    if key.revoked_at is not None:
        output.line(f"revoked {output.local_time(key.revoked_at)}")


def _day(number: int | None) -> str | None:
    return None if number is None else time.strftime("%Y-%m-%d", time.gmtime(number * 86_400))
