"""Tags of objects and buckets: limits, and the header field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import HeaderFields
from tawara.wire.s3.tags import MOST_OBJECT_TAGS, Tags, check_tags, parse_tag_field
from tests.unit.wire.s3.oracle import call


def read_tags(text: str) -> Tags:
    return parse_tag_field(HeaderFields([(b"x-amz-tagging", text.encode())]))


def test_tags_of_a_put() -> None:
    """The tags that a PUT carries are read as botocore writes them, a value may be empty."""
    head = call("put_object", Bucket="b", Key="k", Body=b"", Tagging="a%20b=c%2Fd&e=&f").head()
    assert parse_tag_field(head.fields) == read_tags("a%20b=c%2Fd&e=&f")
    assert read_tags("a%20b=c%2Fd&e=&f") == (("a b", "c/d"), ("e", ""), ("f", ""))
    assert read_tags("") == ()
    assert parse_tag_field(HeaderFields(())) == ()


@pytest.mark.parametrize(
    ("tags", "allowed"),
    [
        ([(f"k{number}", "v") for number in range(10)], True),
        ([(f"k{number}", "v") for number in range(11)], False),
        ([("k" * 128, "v" * 256)], True),
        ([("k" * 129, "v")], False),
        ([("k", "v" * 257)], False),
        ([("", "v")], False),
        ([("k", "v"), ("k", "w")], False),
        ([("aws:k", "v")], False),
        ([("é 1+-=._:/@", "日本")], True),
        ([("k", "a<b")], False),
        ([("k", "a\x00b")], False),
    ],
)
def test_limits_of_tags(tags: list[tuple[str, str]], allowed: bool) -> None:
    """Ten tags of an object, each key once, 128 characters of a key and 256 of a value, else InvalidTag."""
    if allowed:
        check_tags(tags, MOST_OBJECT_TAGS)
        return
    with pytest.raises(S3Fault) as raised:
        check_tags(tags, MOST_OBJECT_TAGS)
    assert raised.value.code is FaultCode.INVALID_TAG


@given(text=st.one_of(st.text(max_size=50), st.from_regex(r"([%a-z0-9+;&=]|%[0-9a-f]{2}){0,30}")))
def test_any_text_as_tags(text: Any) -> None:
    """Any text in the field is read or refused with 4xx."""
    try:
        read_tags(text)
    except S3Fault as fault:
        assert fault.code in (FaultCode.INVALID_TAG, FaultCode.INVALID_ARGUMENT)
