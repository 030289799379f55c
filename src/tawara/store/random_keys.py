"""Chooses the random values of an access key."""

from __future__ import annotations

import secrets

from tawara.model.access.keys import ID_ALPHABET, ID_BEGINNING, ID_LENGTH, SECRET_ALPHABET, SECRET_LENGTH


def random_id() -> str:
    """Return an id."""
    return ID_BEGINNING + _choose(ID_ALPHABET, ID_LENGTH - len(ID_BEGINNING))


def random_secret() -> str:
    """Return a secret."""
    return _choose(SECRET_ALPHABET, SECRET_LENGTH)


def _choose(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))
