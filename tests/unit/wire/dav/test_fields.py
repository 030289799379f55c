"""Header fields of WebDAV."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import InvalidKey, UsageError
from tawara.wire.dav import fields
from tawara.wire.dav.fields import CollectionDepth


def test_depth() -> None:
    """0, 1 and infinity in any case; absent is what the method says."""
    assert [fields.parse_depth(each) for each in ("0", " 1", "Infinity", None)] == [
        CollectionDepth.ZERO,
        CollectionDepth.ONE,
        CollectionDepth.INFINITY,
        CollectionDepth.INFINITY,
    ]
    assert fields.parse_depth(None, default=CollectionDepth.ZERO) is CollectionDepth.ZERO
    for wrong in ("2", "", "1,noroot"):
        with pytest.raises(UsageError):
            fields.parse_depth(wrong)


def test_overwrite() -> None:
    """T by default, F only if it is written."""
    assert [fields.parse_overwrite(each) for each in (None, "T", "t", "F", " f")] == [True, True, True, False, False]
    with pytest.raises(UsageError):
        fields.parse_overwrite("no")


@pytest.mark.parametrize("prefix", ["", "http://other.example:81", "https://h"])
def test_only_the_path_of_a_destination_counts(prefix: str) -> None:
    """A destination under another host name, or as a path, is the same target."""
    target = fields.parse_destination(f"{prefix}/d/a%20b/")
    assert (target.domain, target.key) == ("d", b"a b/")


@pytest.mark.parametrize("text", [None, "", "relative", "/d/%zz", "/../x", "/d/" + "k" * 3000])
def test_wrong_destinations_are_refused(text: str | None) -> None:
    """What is no path of this server is an error of the client."""
    with pytest.raises((UsageError, InvalidKey)):
        fields.parse_destination(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 600),
        ("Second-120", 120),
        ("Infinite", 3600),
        ("Infinite, Second-4100000000", 3600),
        ("x, second-7", 7),
        ("Second-0", 1),
        ("Second-" + "9" * 20, 3600),
        ("Second-" + "9" * 21, 600),
    ],
)
def test_timeouts_are_bounded(text: str | None, seconds: int) -> None:
    """A lock lasts as long as asked for, at least a second and at most an hour."""
    assert fields.parse_timeout(text) == seconds


@given(st.text(max_size=30))
def test_lock_tokens(text: str) -> None:
    """A token is a URI in angle brackets; everything else is refused."""
    try:
        token = fields.parse_lock_token(text)
    except UsageError:
        return
    assert f"<{token}>" == text.strip()


def test_a_lock_token_is_read() -> None:
    """The brackets are not part of the token."""
    assert fields.parse_lock_token(" <urn:uuid:1> ") == "urn:uuid:1"
