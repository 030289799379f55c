"""The Authorization field: bearer tokens and Basic, and everything that is neither."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.credentials import Credentials, parse_authorization


def basic(text: bytes) -> str:
    return f"Basic {base64.b64encode(text).decode()}"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["Bearer token"], Credentials(b"token", None, b"")),
        (["bearer   token "], Credentials(b"token", None, b"")),
        (["Bearer ID:se:cret"], Credentials(b"ID:se:cret", "ID", b"se:cret")),
        (["Bearer :"], Credentials(b":", "", b"")),
        (["Bearer \udcff"], Credentials(b"\xff", None, b"")),
        ([basic(b"ID:se:cret")], Credentials(None, "ID", b"se:cret")),
        ([basic(b":")], Credentials(None, "", b"")),
        ([basic(b"\xff:x")], Credentials(None, "\xff", b"x")),
        ([basic(b"no colon")], None),
        (["Basic !!!!"], None),
        (["Basic"], None),
        (["Digest username=x"], None),
        (["token"], None),
        ([""], None),
        ([], None),
        (["Bearer a", "Bearer a"], None),
    ],
)
def test_parsing(fields: list[str], expected: Credentials | None) -> None:
    """The token or pair is returned as it was sent; several fields, or another scheme, are none."""
    assert parse_authorization(fields) == expected


@given(st.lists(st.text(), max_size=2))
def test_any_text_is_parsed(fields: list[str]) -> None:
    """No text raises an error."""
    fields = [each.encode("utf-8", "replace").decode("utf-8", "surrogateescape") for each in fields]
    parse_authorization(fields)


def test_secrets_are_not_in_representations() -> None:
    """Credentials that are logged by accident show no secret."""
    assert "hidden" not in repr(parse_authorization(["Bearer ID:hidden"]))
    assert "hidden" not in repr(parse_authorization(["Bearer hidden"]))
