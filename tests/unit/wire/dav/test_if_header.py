"""The `If` header field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import UsageError
from tawara.wire.dav.if_header import IfCondition, IfList, ResourceState, holds, parse_if, submitted_tokens

TOKENS = st.from_regex(r"urn:uuid:[0-9a-f]{1,8}", fullmatch=True)
TAGS = st.from_regex(r'"[0-9a-f]{1,8}"', fullmatch=True)
CONDITIONS = st.one_of(
    st.builds(lambda token, negated: IfCondition(token=token, negated=negated), TOKENS, st.booleans()),
    st.builds(lambda etag, negated: IfCondition(etag=etag, negated=negated), TAGS, st.booleans()),
)
CONDITION_LISTS = st.lists(CONDITIONS, min_size=1, max_size=4).map(tuple)
FIELDS = st.one_of(
    st.lists(CONDITION_LISTS.map(lambda each: IfList(None, each)), min_size=1, max_size=4).map(tuple),
    st.lists(st.builds(IfList, st.sampled_from(["/d/a", "http://h/d/b"]), CONDITION_LISTS), min_size=1, max_size=4).map(
        tuple
    ),
)


def render(lists: tuple[IfList, ...], blank: str) -> str:
    """Write a field as a client does."""
    parts = []
    for each in lists:
        resource = f"<{each.resource}>{blank}" if each.resource else ""
        conditions = [
            ("Not " if one.negated else "") + (f"<{one.token}>" if one.token else f"[{one.etag}]")
            for one in each.conditions
        ]
        parts.append(f"{resource}({blank}{blank.join(conditions)}{blank})")
    return blank.join(parts)


@given(FIELDS, st.sampled_from(["", " ", "\t "]))
def test_what_is_written_is_read(lists: tuple[IfList, ...], blank: str) -> None:
    """Every field of the grammar is read as it was meant, with and without blanks."""
    assert parse_if(render(lists, blank)) == lists


@given(st.text(alphabet='<>()[]"Not :/urna \t\x00\u00e9', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, the only error is UsageError, and what is read has a condition in every list."""
    try:
        lists = parse_if(text)
    except UsageError:
        return
    assert lists
    assert all(each.conditions for each in lists)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "()",
        "(<a:b>",
        "<a:b>",
        "(<a:b>) </c> (<a:b>)",
        "([x])",
        "(Not)",
        "(Nota <a:b>)",
        "(<a b>)",
        "x",
        "(<a:b>)x",
        "(<a:b>)" * 1001,
    ],
)
def test_malformed_fields_are_refused(text: str) -> None:
    """A malformed field is an error of the client; it is never ignored."""
    with pytest.raises(UsageError):
        parse_if(text)


def test_one_resource_may_have_several_lists() -> None:
    """A resource tag applies to all lists up to the next one (10.4.2)."""
    lists = parse_if('</a> (<x:1>) (Not <x:2>) </b> (["e"])')
    assert [each.resource for each in lists] == ["/a", "/a", "/b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(<x:1>)", True),
        ("(<x:2>)", False),
        ("(Not <x:2>)", True),
        ("(Not <DAV:no-lock>)", True),
        ("(<DAV:no-lock>)", False),
        ('(<x:1> ["e"])', True),
        ('(<x:1> ["f"])', False),
        ('(<x:2>) (["e"])', True),
        ('(Not ["e"])', False),
        ("</other> (<x:1>)", False),
        ("</other> (Not <x:1>)", True),
        ('</other> (Not ["e"])', True),
    ],
)
def test_lists_are_evaluated(text: str, *, expected: bool) -> None:
    """One list must hold, and all conditions of it, for its own resource (10.4.3, 10.4.4)."""
    states: dict[str | None, ResourceState] = {None: ResourceState('"e"', frozenset({"x:1"}))}
    assert holds(parse_if(text), lambda resource: states.get(resource, ResourceState())) is expected


def test_weak_tags_never_match() -> None:
    """Entity tags are compared strongly."""
    weak = ResourceState('W/"e"')
    assert not holds(parse_if('([W/"e"])'), lambda _: weak)
    assert holds(parse_if('(Not [W/"e"])'), lambda _: weak)


def test_tokens_are_submitted_in_any_list() -> None:
    """A token in any list is submitted, also one that is negated (10.4.1)."""
    assert submitted_tokens(parse_if('(<x:1>) (Not <x:2> ["e"])')) == {"x:1", "x:2"}
