"""The access key of a new store: made by the first `tawara up` for S3 and WebDAV, and kept in two private files.

One file has the form of the AWS tools, the other that of curl, so that the commands that are printed work without a
secret in them. Each step checks whether it is done already, so that the next run completes an interrupted one.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tawara.cli.first_run import write_once
from tawara.metadata import access_keys
from tawara.metadata.contract import Metadata
from tawara.model.access.creation import new_key
from tawara.model.errors import ConfigurationError
from tawara.store.key_file import KeyFile
from tawara.store.random_keys import random_id, random_secret
from tawara.wire.installation_key import NONCE, seal

CREDENTIALS: Final = "access-key"
"""Name of the file in the form of ~/.aws/credentials."""
NETRC: Final = "access-key.netrc"
"""Name of the file in the form of ~/.netrc."""
NAME: Final = "first-run"
FORM: Final = re.compile(r"^aws_access_key_id *= *(\w+)\naws_secret_access_key *= *(\S+)$", re.ASCII | re.MULTILINE)
"""Id and secret in a file in the form of ~/.aws/credentials."""


@dataclass(frozen=True, slots=True)
class FirstKey:
    """The access key of a new store."""

    id: str
    secret: str
    is_new: bool
    """Whether this run has made it."""


async def prepare(metadata: Metadata, directory: Path, keys: KeyFile) -> FirstKey | None:
    """Return the store's first access key, made if there is no key yet; None if the file was removed.

    Raises ConfigurationError if the file is not in its form, Db.
    """
    path = directory / CREDENTIALS
    is_new = False
    if not path.exists():
        if await metadata.read(access_keys.list_all):
            return None
        is_new = True
        write_once(path, _render(random_id(), random_secret()), 0o600)
    found = FORM.search(path.read_text("utf-8", "replace"))
    if found is None:
        raise ConfigurationError(
            f"{path} is not in the form in which it was written", hint="Remove it, and make a key: tawara key create"
        )
    key = FirstKey(found[1], found[2], is_new)
    write_once(directory / NETRC, f"default login {key.id} password {key.secret}\n", 0o600)
    if all(each.id != key.id for each in await metadata.read(access_keys.list_all)):
        wanted = new_key(
            NAME,
            key_id=key.id,
            account_id=secrets.token_hex(32),
            admin=True,
            sealed=seal(keys.load()[0], key.secret, owner=key.id, nonce=secrets.token_bytes(NONCE)),
            now=await metadata.clock.seconds(),
        )
        await metadata.write(access_keys.create, wanted, own_account=True)
    return key


def _render(key_id: str, secret: str) -> str:
    return (
        "# The access key that the first `tawara up` made; it may do everything. For the AWS tools:\n"
        "# AWS_SHARED_CREDENTIALS_FILE=this file\n"
        f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n"
    )
