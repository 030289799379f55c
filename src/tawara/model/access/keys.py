"""Access keys and the accounts that own them: values, validity, the form of ids and secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tawara.model.access.grants import Grant

ID_LENGTH: Final = 20
"""Characters of the id of an access key."""
ID_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
ID_BEGINNING: Final = "TW"
SECRET_LENGTH: Final = 40
"""Characters of a secret: 238 bits."""
SECRET_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"  # noqa: S105 - no secret
NAME_LENGTH: Final = 100
"""Most characters of the name of an account or access key."""
LONGEST: Final = 100 * 365 * 86_400
"""Most seconds until a key expires."""

_ID: Final = re.compile(rf"{ID_BEGINNING}[A-Z2-7]{{{ID_LENGTH - len(ID_BEGINNING)}}}")
_NAME: Final = re.compile(rf"[A-Za-z0-9][\w.@+-]{{0,{NAME_LENGTH - 1}}}", re.ASCII)


class KeyState(StrEnum):
    """Whether an access key is accepted."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Account:
    """The owner of access keys and of what they create."""

    id: str
    """64 hexadecimal digits."""
    name: str


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key without its secret. Times are unix seconds of the database's clock."""

    id: str
    name: str
    account: Account
    grants: tuple[Grant, ...]
    created_at: int
    expires_at: int | None
    revoked_at: int | None
    used_on: int | None = None
    """Day of the last use, as days since 1970-01-01; None if never used."""
    sealed: str = field(default="", repr=False)
    """The secret, encrypted (metadata.sealing)."""

    def state(self, now: float) -> KeyState:
        """Return whether the key is accepted at `now`."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.expires_at is not None and now >= self.expires_at:
            return KeyState.EXPIRED
        return KeyState.ACTIVE


def is_id(text: str) -> bool:
    """Return whether `text` has the form of the id of an access key."""
    return _ID.fullmatch(text) is not None


def is_name(text: str) -> bool:
    """Return whether an account or access key may have this name; an id is not a name."""
    return _NAME.fullmatch(text) is not None and not is_id(text)
