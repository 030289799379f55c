"""Grants of access keys: their text, and what they allow."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.access import grants
from tawara.model.access.grants import EVERYTHING, Grant, Right
from tawara.model.errors import InvalidGrant

RIGHTS = st.sets(st.sampled_from("rwla"), min_size=1).map("".join)
DOMAINS = st.text(st.sampled_from("ab*-."), min_size=1, max_size=12)
PREFIXES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
EVERY = list(Right)


@pytest.mark.parametrize(
    ("text", "domain", "key", "allowed"),
    [
        ("photos=rw", "photos", b"a/b", Right.READ | Right.LIST | Right.WRITE),
        ("photos=r", "photos", b"a", Right.READ | Right.LIST),
        ("photos=l", "photos", b"a", Right.LIST),
        ("photos=w", "photos", b"a", Right.WRITE),
        ("photos=a", "photos", b"a", Right.ADMIN),
        ("photos=rw", "photos2", b"a", Right(0)),
        ("photos=rw", "Photos", b"a", Right(0)),
        ("logs-*=r", "logs-2026", b"a", Right.READ | Right.LIST),
        ("logs-*=r", "logs-", b"a", Right.READ | Right.LIST),
        ("logs-*=r", "logs", b"a", Right(0)),
        ("logs-*=r", "alogs-2026", b"a", Right(0)),
        ("*=w", "any", b"", Right.WRITE),
        ("*a*=w", "any", b"", Right.WRITE),
        ("photos/raw/=w", "photos", b"raw/1", Right.WRITE),
        ("photos/raw/=w", "photos", b"raw", Right(0)),
        ("photos/raw/=w", "photos", b"", Right(0)),
        ("photos/raw/=r", "photos", b"ra", Right(0)),
        ("photos/=r", "photos", b"x", Right.READ | Right.LIST),
        ("photos/a=b=r", "photos", b"a=bc", Right.READ | Right.LIST),
        ("photos/é=r", "photos", "été".encode(), Right.READ | Right.LIST),
        ("photos/*=r", "photos", b"a", Right(0)),
    ],
)
def test_what_a_grant_allows(text: str, domain: str, key: bytes, allowed: Right) -> None:
    """A grant covers its domains and prefix, with its rights and no others; a prefix has no wildcard."""
    grant = grants.parse(text)
    assert [right for right in EVERY if grant.allows(right, domain, key)] == [each for each in EVERY if each in allowed]


@pytest.mark.parametrize(
    "text", ["", "photos", "=rw", "photos=", "photos=x", "photos=rwx", "/a=r", "photos=RW", "p\n=r"]
)
def test_malformed_grants(text: str) -> None:
    """A text that is not a grant is refused, and the error quotes it."""
    with pytest.raises(InvalidGrant, match=re.escape(repr(text))):
        grants.parse(text)


@pytest.mark.parametrize("text", [f"{'d' * 256}=r", f"d/{'p' * 1025}=r", "d/\udcff=r"])
def test_names_that_no_store_has(text: str) -> None:
    """A domain or prefix that no store can have is refused."""
    with pytest.raises(InvalidGrant):
        grants.parse(text)


@given(DOMAINS, PREFIXES, RIGHTS)
def test_a_printed_grant_is_the_same(domains: str, prefix: str, rights: str) -> None:
    """The text of a grant is parsed to an equal grant."""
    grant = grants.parse(f"{domains}/{prefix}={rights}")
    assert grants.parse(str(grant)) == grant


@given(DOMAINS, DOMAINS)
def test_patterns_match_as_shell_patterns(pattern: str, name: str) -> None:
    """`*` stands for any characters, everything else for itself."""
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None
    assert Grant(pattern, b"", Right.READ).allows(Right.READ, name, b"") is expected


@given(st.lists(st.tuples(DOMAINS, PREFIXES, RIGHTS)), DOMAINS, st.binary(max_size=20), st.sampled_from(EVERY))
def test_grants_only_add(texts: list[tuple[str, str, str]], domain: str, key: bytes, right: Right) -> None:
    """A key is allowed what any of its grants allows, in whatever order, and without grants nothing."""
    found = [grants.parse(f"{domains}/{prefix}={rights}") for domains, prefix, rights in texts]
    expected = any(each.allows(right, domain, key) for each in found)
    assert grants.allowed(found, right, domain, key) is expected
    assert grants.allowed(reversed(found), right, domain, key) is expected
    assert grants.allowed([*found, EVERYTHING], right, domain, key)
    assert not grants.allowed([], right, domain, key)


def test_a_long_pattern_is_matched_quickly() -> None:
    """A pattern of many stars takes no exponential time."""
    assert not Grant("*a" * 100 + "b", b"", Right.READ).allows(Right.READ, "a" * 255, b"")


@pytest.mark.parametrize(
    ("domain", "prefix", "accepted"),
    [("d" * 255, "", True), ("d" * 256, "", False), ("d", "p" * 1024, True), ("d", "p" * 1025, False),
     ("é" * 127, "é" * 512, True), ("é" * 128, "", False)],
)  # fmt: skip
def test_limits_are_those_of_domains_and_keys(domain: str, prefix: str, accepted: bool) -> None:
    """A domain has as many bytes as a domain may have, a prefix as many as a key, and not one more."""
    if accepted:
        assert grants.parse(f"{domain}/{prefix}=r").domains == domain
    else:
        with pytest.raises(InvalidGrant, match="too long"):
            grants.parse(f"{domain}/{prefix}=r")
