"""Names of buckets and of reserved keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.bucket_names import is_bucket_name
from tawara.model.reserved_keys import RESERVED, is_reserved


@pytest.mark.parametrize("name", ["abc", "a1-b2", "my.bucket", "1" * 63, "123"])
def test_names_of_buckets(name: str) -> None:
    """L9: names follow DNS rules: 3 to 63 lower-case letters, digits, dots and dashes."""
    assert is_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ab",
        "a" * 64,
        "Abc",
        "a_b",
        "-ab",
        "ab-",
        ".ab",
        "ab.",
        "a..b",
        "a.-b",
        "a-.b",
        "192.168.5.4",
        "xn--abc",
        "abc-s3alias",
        "abé",
        "abc\n",
        "a b",
    ],
)
def test_names_that_are_refused(name: str) -> None:
    """L9: other names are InvalidBucketName."""
    assert not is_bucket_name(name)


@given(key=st.text(st.characters(codec="utf-8", max_codepoint=0x10FFFE), max_size=10))
def test_no_other_key_is_reserved(key: str) -> None:
    """T11: keys of users sort before the reserved ones; no valid key is hidden unless it begins with U+10FFFF."""
    assert not is_reserved(key.encode())
    assert is_reserved(RESERVED + key.encode())
