"""The installation's key: its file, derived keys, sealed secrets."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.installation_key import (
    NONCE,
    SIZE,
    CannotOpen,
    InstallationKey,
    MalformedKeyFile,
    open_sealed,
    parse_key_file,
    render_key_file,
    seal,
    sealed_with,
)

KEYS = st.binary(min_size=SIZE, max_size=SIZE).map(InstallationKey)
ONE, OTHER = InstallationKey(b"1" * SIZE), InstallationKey(b"2" * SIZE)


@given(st.lists(KEYS, min_size=1, max_size=4))
def test_a_file_keeps_the_order_of_its_keys(keys: list[InstallationKey]) -> None:
    """What is rendered is parsed to the same keys, in the same order."""
    assert list(parse_key_file(render_key_file(keys))) == keys


@pytest.mark.parametrize(
    "text", ["", "\n# nothing\n", "secret", "tawara-key-1", "tawara-key-1 QUJD", "tawara-key-2 " + "A" * 43 + "="]
)
def test_malformed_files(text: str) -> None:
    """A text without a key, or with a line of another form, is refused without quoting it."""
    with pytest.raises(MalformedKeyFile) as caught:
        parse_key_file(text)
    assert "QUJD" not in str(caught.value)


def test_derived_keys_are_those_of_the_rfc() -> None:
    """A derived key is HKDF-Expand of RFC 5869, and each purpose has another."""
    expected = HKDFExpand(SHA256(), 32, b"tawara sealing").derive(ONE.secret)
    assert ONE.derive("sealing") == expected
    assert ONE.derive("sealing") == hmac.digest(ONE.secret, b"tawara sealing\x01", hashlib.sha256)
    assert len({ONE.derive("sealing"), ONE.derive("signing"), ONE.secret}) == 3


@given(KEYS, st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.binary(min_size=NONCE, max_size=NONCE))
def test_sealed_secrets_are_opened(key: InstallationKey, secret: str, nonce: bytes) -> None:
    """A secret is opened with the key that sealed it, wherever that is in the file."""
    sealed = seal(key, secret, owner="ID", nonce=nonce)
    assert sealed_with(sealed) == key.id
    assert open_sealed((ONE, key), sealed, owner="ID") == secret
    assert secret.encode() not in sealed.encode() or len(secret) < 6


def test_nothing_else_opens_them() -> None:
    """Another key, another owner, and any changed character are refused."""
    sealed = seal(ONE, "the secret", owner="ID", nonce=b"n" * NONCE)
    with pytest.raises(CannotOpen, match="another key"):
        open_sealed((OTHER,), sealed, owner="ID")
    with pytest.raises(CannotOpen, match="damaged"):
        open_sealed((ONE,), sealed, owner="IE")
    for position in range(sealed.index(":") + 1, len(sealed) - 1):
        changed = sealed[:position] + ("B" if sealed[position] == "A" else "A") + sealed[position + 1 :]
        with pytest.raises(CannotOpen):
            open_sealed((ONE,), changed, owner="ID")
    for text in ("", ":", f"{ONE.id}:", f"{ONE.id}:AAAA", "nonsense"):
        with pytest.raises(CannotOpen):
            open_sealed((ONE,), text, owner="ID")


def test_the_key_is_not_in_its_representation() -> None:
    """A key that is logged by accident does not show its bytes."""
    assert "1111" not in repr(ONE)
