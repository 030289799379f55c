"""Targets, dates, entity tags and preconditions."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import InvalidKey, UsageError
from tawara.wire.http import (
    ConditionResult,
    Conditions,
    Target,
    Validators,
    entity_tag,
    http_date,
    parse_date,
    parse_target,
    path_of,
)

NOW = 784_111_777  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
CURRENT = Validators('"1-5"', NOW)


def _leaves_root(key: bytes) -> bool:
    depth = 1
    for segment in key.split(b"/"):
        depth += -1 if segment == b".." else segment not in (b"", b".")
        if depth < 0:
            return True
    return False


keys = st.binary(min_size=1, max_size=1024).filter(lambda key: b"\0" not in key and not _leaves_root(key))


@given(keys)
def test_a_path_round_trips(key: bytes) -> None:
    """The path made for a key is parsed to the same key, byte for byte."""
    assert parse_target(path_of("photos", key)) == Target("photos", key)


@given(keys)
def test_escaping_does_not_change_the_key(key: bytes) -> None:
    """A path with everything escaped has the same key as one with only the necessary escapes."""
    everything = "".join(f"%{byte:02x}" for byte in key)
    assert parse_target(f"/d/{everything}").key == key
    segments = quote_from_bytes(key, safe="/").split("/")
    needed = "/".join("%2E" if segment == "." else segment for segment in segments)  # RFC 3986, section 5.2.4
    assert parse_target(f"/d/{needed}").key == key


@given(st.text())
def test_invalid_targets_are_usage_errors(raw: str) -> None:
    """An invalid target or query raises UsageError and nothing else."""
    with suppress(UsageError):
        parse_target(raw).parameters()


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/", Target()),
        ("/d", Target("d")),
        ("/d/", Target("d")),
        ("/d/a%2Fb", Target("d", b"a/b")),
        ("/d/a+b%20c", Target("d", b"a+b c")),
        ("/d//a//b/", Target("d", b"/a//b/")),
        ("/a%2Fb/k", Target("a/b", b"k")),
        ("/d/k?x=1&y", Target("d", b"k", "x=1&y")),
        ("/d/%3F%23%25", Target("d", b"?#%")),
        ("http://host:7080/d/k", Target("d", b"k")),
        ("/d/\udcc3\udca9", Target("d", "é".encode())),
        ("/d/é", Target("d", "é".encode())),
        ("/d/../k", Target("d", b"../k")),
    ],
)
def test_valid_targets(raw: str, target: Target) -> None:
    """The first slash after the domain begins the key; %2F is a slash of the key; + is a plus."""
    assert parse_target(raw) == target


@pytest.mark.parametrize(
    "raw",
    ["", "*", "d/k", "host:80", "/d/%", "/d/%4", "/d/%zz", "/d/k#f", "/d/%00", "/d/../../k", "/d/..%2F..%2Fk"],
)
def test_invalid_targets(raw: str) -> None:
    """A path with a broken escape or a NUL, or that leads above the root, is refused."""
    with pytest.raises(UsageError):
        parse_target(raw)


def test_the_longest_key() -> None:
    """1,024 bytes are a key, one more is not, however they are escaped."""
    assert len(parse_target("/d/" + "%C3%A9" * 512).key) == 1024
    with pytest.raises(InvalidKey):
        parse_target("/d/" + "a" * 1025)


def test_query_parameters() -> None:
    """A query is decoded as a form's, with any bytes, and its length is limited."""
    assert Target(query="prefix=a+b%2F&after=%ff&after=&x").parameters() == {"prefix": b"a b/", "after": b"", "x": b""}
    assert Target(query="after=%ff").parameters() == {"after": b"\xff"}
    with pytest.raises(UsageError):
        Target(query="&".join("a=b" for _ in range(99))).parameters()


# --- dates and tags ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_the_three_forms_of_dates(text: str) -> None:
    """The examples of RFC 9110, section 5.6.7, are parsed."""
    assert parse_date(text) == NOW


@given(st.integers(0, 253_402_300_799))
def test_dates_round_trip(seconds: int) -> None:
    """Each second has a date that is parsed to it."""
    assert parse_date(http_date(seconds)) == seconds


@given(st.none() | st.text())
def test_any_text_as_date(text: str | None) -> None:
    """An invalid date is None, never an exception; a valid one has one meaning."""
    seconds = parse_date(text)
    assert seconds is None or parse_date(http_date(seconds)) == seconds


@pytest.mark.parametrize("text", ["Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT", "0", "tomorrow"])
def test_impossible_dates(text: str) -> None:
    """A day or an hour that does not exist is not a date."""
    assert parse_date(text) is None


def test_entity_tags_differ() -> None:
    """The tag depends on the fid and the length."""
    assert entity_tag(255, 16) == '"ff-10"'


# --- preconditions ----------------------------------------------------------------------------------------------------

BEFORE, SAME, AFTER = http_date(NOW - 1), http_date(NOW), http_date(NOW + 1)
PROCEED, NOT_MODIFIED, FAILED = ConditionResult.PROCEED, ConditionResult.NOT_MODIFIED, ConditionResult.FAILED


@pytest.mark.parametrize(
    ("conditions", "reading", "writing"),
    [
        (Conditions(), PROCEED, PROCEED),
        (Conditions(if_match="*"), PROCEED, PROCEED),
        (Conditions(if_match='"1-5"'), PROCEED, PROCEED),
        (Conditions(if_match='"x", "1-5"'), PROCEED, PROCEED),
        (Conditions(if_match='W/"1-5"'), FAILED, FAILED),
        (Conditions(if_match='"x"'), FAILED, FAILED),
        (Conditions(if_match="garbage"), FAILED, FAILED),
        (Conditions(if_none_match="*"), NOT_MODIFIED, FAILED),
        (Conditions(if_none_match='"1-5"'), NOT_MODIFIED, FAILED),
        (Conditions(if_none_match='"x" , W/"1-5"'), NOT_MODIFIED, FAILED),
        (Conditions(if_none_match='"x"'), PROCEED, PROCEED),
        (Conditions(if_modified_since=BEFORE), PROCEED, PROCEED),
        (Conditions(if_modified_since=SAME), NOT_MODIFIED, PROCEED),
        (Conditions(if_modified_since=AFTER), NOT_MODIFIED, PROCEED),
        (Conditions(if_modified_since="garbage"), PROCEED, PROCEED),
        (Conditions(if_unmodified_since=BEFORE), FAILED, FAILED),
        (Conditions(if_unmodified_since=SAME), PROCEED, PROCEED),
        (Conditions(if_unmodified_since="garbage"), PROCEED, PROCEED),
        # If-None-Match makes If-Modified-Since void, If-Match makes If-Unmodified-Since void (13.2.2)
        (Conditions(if_none_match='"x"', if_modified_since=AFTER), PROCEED, PROCEED),
        (Conditions(if_match='"1-5"', if_unmodified_since=BEFORE), PROCEED, PROCEED),
        (Conditions(if_match='"1-5"', if_none_match='"1-5"'), NOT_MODIFIED, FAILED),
        (Conditions(if_match='"x"', if_none_match='"1-5"'), FAILED, FAILED),
    ],
)
def test_preconditions(conditions: Conditions, reading: ConditionResult, writing: ConditionResult) -> None:
    """Order and results are those of RFC 9110, section 13.2.2."""
    assert conditions.judge(CURRENT, reading=True) is reading
    assert conditions.judge(CURRENT, reading=False) is writing


def test_preconditions_without_a_file() -> None:
    """Without a file, If-Match fails and If-None-Match holds; dates have no effect."""
    assert Conditions(if_match="*").judge(None, reading=False) is FAILED
    assert Conditions(if_none_match="*").judge(None, reading=False) is PROCEED
    assert Conditions(if_unmodified_since=BEFORE).judge(None, reading=False) is PROCEED


def test_without_a_date() -> None:
    """A file stored by MogileFS has no date: conditions on dates are ignored, ranges by date do not apply."""
    dateless = Validators('"1-5"')
    assert Conditions(if_modified_since=AFTER).judge(dateless, reading=True) is PROCEED
    assert Conditions(if_unmodified_since=BEFORE).judge(dateless, reading=True) is PROCEED
    assert not Conditions(if_range=SAME).ranges_apply(dateless)


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        ('"1-5"', True),
        ('"x"', False),
        ('W/"1-5"', False),
        (SAME, True),
        (BEFORE, False),
        (AFTER, False),
        ("garbage", False),
    ],
)
def test_if_range(if_range: str | None, applies: bool) -> None:
    """A range applies only to exactly the version of which the client has a part."""
    assert Conditions(if_range=if_range).ranges_apply(CURRENT) is applies


@given(st.builds(Conditions, *[st.none() | st.text(max_size=60)] * 5), st.none() | st.just(CURRENT), st.booleans())
def test_any_condition_is_evaluated(conditions: Conditions, current: Validators | None, reading: bool) -> None:
    """Invalid conditions raise no exception; only a read gets 304."""
    verdict = conditions.judge(current, reading=reading)
    assert reading or verdict is not NOT_MODIFIED
    conditions.ranges_apply(CURRENT)
