"""Checks and completes what an administrator wants of a new access key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tawara.model import amounts
from tawara.model.access import grants
from tawara.model.access.grants import EVERYTHING, Grant
from tawara.model.access.keys import LONGEST, AccessKey, Account, is_name
from tawara.model.errors import InvalidExpiry, InvalidGrant, InvalidKeyName

MOST_GRANTS: Final = 100
"""Most grants of a key."""
MOST_BYTES: Final = 50_000
"""Most bytes of the texts of all grants of a key together."""


def new_key(
    name: str,
    *,
    key_id: str,
    account_id: str,
    account: str = "",
    domains: Sequence[str] = (),
    admin: bool = False,
    expires: str = "",
    sealed: str,
    now: int,
) -> AccessKey:
    """Return the key. `account`: name of its account, by default that of the key; `expires`: a duration, empty: never.

    Raises InvalidKeyName, InvalidGrant, InvalidExpiry.
    """
    for each in (name, account or name):
        if not is_name(each):
            raise InvalidKeyName(f"{each!r} cannot name an access key or an account")
    return AccessKey(
        id=key_id,
        name=name,
        account=Account(account_id, account or name),
        grants=_grants(domains, admin=admin),
        created_at=now,
        expires_at=now + _seconds(expires) if expires else None,
        revoked_at=None,
        sealed=sealed,
    )


def _grants(texts: Sequence[str], *, admin: bool) -> tuple[Grant, ...]:
    found = [*(grants.parse(text) for text in texts), *([EVERYTHING] if admin else [])]
    if len(found) > MOST_GRANTS or sum(len(text.encode()) for text in texts) > MOST_BYTES:
        raise InvalidGrant(f"A key has at most {MOST_GRANTS} grants, of {MOST_BYTES:,} bytes together")
    return tuple(dict.fromkeys(found))


def _seconds(text: str) -> int:
    seconds = amounts.duration(text)
    if not seconds or seconds > LONGEST:
        raise InvalidExpiry(f"{text!r} is not a duration that a key can have")
    return seconds
