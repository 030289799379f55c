"""Access keys: validity in time, names, and what an administrator may ask for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.access.creation import MOST_GRANTS, new_key
from tawara.model.access.grants import EVERYTHING
from tawara.model.access.keys import AccessKey, KeyState, is_id, is_name
from tawara.model.errors import InvalidExpiry, InvalidGrant, InvalidKeyName, TawaraError

ID = "TW" + "A2" * 9


def made(name: str = "app", **options: Any) -> AccessKey:
    given: dict[str, Any] = {"key_id": ID, "account_id": "f" * 64, "sealed": "", "now": 1000}
    return new_key(name, **given | options)


@given(st.integers(0, 3000), st.none() | st.integers(1, 2000), st.none() | st.integers(0, 3000))
def test_states(now: int, lifetime: int | None, revoked_at: int | None) -> None:
    """A revoked key stays revoked, whatever its expiry and the clock; another is active until it expires."""
    from dataclasses import replace

    key = replace(made(expires="" if lifetime is None else str(lifetime)), revoked_at=revoked_at)
    state = key.state(now)
    if revoked_at is not None:
        assert state is KeyState.REVOKED
    else:
        assert state is (KeyState.EXPIRED if lifetime is not None and now >= 1000 + lifetime else KeyState.ACTIVE)


def test_accounts_and_grants() -> None:
    """A key has an account of its own name unless one is named; --admin grants everything beside the other grants."""
    assert made().account.name == "app"
    assert made(account="office").account.name == "office"
    assert made().grants == ()
    assert [str(each) for each in made(domains=["b=r", "a=w", "b=r"]).grants] == ["b=r", "a=w"]
    assert made(domains=["b=r"], admin=True).grants[-1] == EVERYTHING
    assert made(expires="90d").expires_at == 1000 + 90 * 86_400
    assert made().expires_at is None


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("", {}, InvalidKeyName),
        ("-x", {}, InvalidKeyName),
        ("a b", {}, InvalidKeyName),
        ("a\n", {}, InvalidKeyName),
        ("a:b", {}, InvalidKeyName),
        ("x" * 101, {}, InvalidKeyName),
        (ID, {}, InvalidKeyName),
        ("app", {"account": "a/b"}, InvalidKeyName),
        ("app", {"domains": ["photos"]}, InvalidGrant),
        ("app", {"domains": [f"d{number}=r" for number in range(MOST_GRANTS + 1)]}, InvalidGrant),
        ("app", {"domains": [f"d/{'é' * 500}{number}=r" for number in range(60)]}, InvalidGrant),
        ("app", {"expires": "0d"}, InvalidExpiry),
        ("app", {"expires": "soon"}, InvalidExpiry),
        ("app", {"expires": "-1d"}, InvalidExpiry),
        ("app", {"expires": "999999999w"}, InvalidExpiry),
    ],
)
def test_what_cannot_be_made(name: str, options: dict[str, Any], error: type[TawaraError]) -> None:
    """Names, grants and durations that no key can have are refused, each with an error of its own."""
    with pytest.raises(error):
        made(name, **options)


def test_ids_and_names_differ() -> None:
    """An id is no name, so that a command can take either."""
    assert is_id(ID)
    assert not is_id(ID[:-1])
    assert not is_id(ID.lower())
    assert not is_id("")
    assert is_name("ann@example.org")
    assert not is_name(ID)
