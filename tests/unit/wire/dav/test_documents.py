"""XML bodies of PROPFIND, PROPPATCH and LOCK."""

from __future__ import annotations

from contextlib import suppress
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import UsageError
from tawara.wire.dav import documents
from tawara.wire.dav.documents import (
    LockRequest,
    PropertyName,
    Propfind,
    PropfindKind,
    parse_lock,
    parse_propfind,
    parse_proppatch,
)

D = 'xmlns:D="DAV:"'
SIZE = PropertyName("DAV:", "getcontentlength")
AUTHOR = PropertyName("urn:x", "author")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", Propfind(PropfindKind.ALL)),
        (b" \r\n", Propfind(PropfindKind.ALL)),
        (f"<D:propfind {D}><D:allprop/></D:propfind>".encode(), Propfind(PropfindKind.ALL)),
        (f"<D:propfind {D}><D:propname/></D:propfind>".encode(), Propfind(PropfindKind.NAMES)),
        (
            f'<D:propfind {D}><D:prop><D:getcontentlength/><a xmlns="urn:x"/><b/><b/></D:prop></D:propfind>'.encode(),
            Propfind(PropfindKind.SOME, (SIZE, PropertyName("urn:x", "a"), PropertyName("", "b"))),
        ),
        (
            f"<D:propfind {D}><D:allprop/><D:include><D:getcontentlength/></D:include></D:propfind>".encode(),
            Propfind(PropfindKind.ALL, (SIZE,)),
        ),
        (b'<propfind xmlns="DAV:"><x xmlns="urn:new"/><propname/></propfind>', Propfind(PropfindKind.NAMES)),
    ],
)
def test_propfind_is_read(body: bytes, expected: Propfind) -> None:
    """Each form of PROPFIND is read, unknown elements are ignored, and no body means all properties (9.1, 17)."""
    assert parse_propfind(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"<D:propfind",
        b"<propfind><prop/></propfind>",
        f"<D:propfind {D}/>".encode(),
        f'<D:propfind {D}><D:prop><bar:foo xmlns:bar=""/></D:prop></D:propfind>'.encode(),
        f'<!DOCTYPE a [<!ENTITY b "c">]><D:propfind {D}><D:prop><D:a>&b;</D:a></D:prop></D:propfind>'.encode(),
        b"<D:propfind xmlns:D='DAV:'>" + b"<a>" * documents.DEEPEST + b"</a>" * documents.DEEPEST + b"</D:propfind>",
        b"<D:propfind xmlns:D='DAV:'>" + b"<a/>" * documents.MOST_ELEMENTS + b"</D:propfind>",
        b"<D:propfind xmlns:D='DAV:'><D:prop>"
        + b"".join(b"<a%d/>" % number for number in range(documents.MOST_PROPERTIES + 1))
        + b"</D:prop></D:propfind>",
        b"<D:propfind xmlns:D='DAV:'><D:propname/>" + b" " * documents.LONGEST + b"</D:propfind>",
        b'<?xml version="1.0" encoding="no-such"?><D:propfind xmlns:D="DAV:"><D:propname/></D:propfind>',
    ],
)
def test_wrong_documents_are_refused(body: bytes) -> None:
    """Bodies that are not well-formed, not what the method takes, or beyond a limit are refused."""
    with pytest.raises(UsageError):
        parse_propfind(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever the bytes, the only error is UsageError."""
    for parse in (parse_propfind, parse_proppatch, parse_lock):
        with suppress(UsageError):
            parse(body)


def test_properties_are_changed_in_order() -> None:
    """Instructions keep their order, and values their content, namespaces and language (4.3, 9.2)."""
    changes = parse_proppatch(
        f'<D:propertyupdate {D} xml:lang="de">'
        '<D:remove><D:prop><author xmlns="urn:x">ignored</author></D:prop></D:remove>'
        '<D:set><D:prop><author xmlns="urn:x"><b>Anna</b> &amp; Otto</author>'
        '<t xmlns="urn:x" xml:lang="en">x</t></D:prop>'
        "</D:set></D:propertyupdate>".encode()
    )
    assert [(each.name, each.value is None) for each in changes] == [
        (AUTHOR, True),
        (AUTHOR, False),
        (PropertyName("urn:x", "t"), False),
    ]
    assert changes[1].value is not None
    assert changes[2].value is not None
    author = ElementTree.fromstring(changes[1].value)
    language = "{http://www.w3.org/XML/1998/namespace}lang"
    assert (author.tag, author.get(language)) == ("{urn:x}author", "de")
    assert (author[0].tag, author[0].text, author[0].tail) == ("{urn:x}b", "Anna", " & Otto")
    assert ElementTree.fromstring(changes[2].value).get(language) == "en"


def test_a_proppatch_without_changes_is_refused() -> None:
    """PROPPATCH must name at least one property."""
    with pytest.raises(UsageError, match="changes no property"):
        parse_proppatch(f"<D:propertyupdate {D}><D:set><D:prop/></D:set></D:propertyupdate>".encode())


def test_long_values_are_refused() -> None:
    """A value that the database could not hold is refused, not cut off."""
    with pytest.raises(UsageError, match="at most"):
        parse_proppatch(
            f"<D:propertyupdate {D}><D:set><D:prop><a>{'x' * documents.LONGEST_VALUE}</a></D:prop></D:set>"
            "</D:propertyupdate>".encode()
        )


def _lockinfo(content: str) -> bytes:
    return f"<D:lockinfo {D}>{content}</D:lockinfo>".encode()


WRITE = "<D:locktype><D:write/></D:locktype>"


def test_locks_are_read() -> None:
    """LOCK names the scope, and the owner is kept as it is; without a body a lock is refreshed."""
    scope = "<D:lockscope><D:shared/></D:lockscope>"
    read = parse_lock(_lockinfo(f"{scope}{WRITE}<D:owner><D:href>mailto:a@b</D:href></D:owner>"))
    assert read is not None
    assert not read.exclusive
    owner = ElementTree.fromstring(read.owner)
    assert (owner.tag, owner[0].text) == ("{DAV:}owner", "mailto:a@b")
    exclusive = "<D:lockscope><D:exclusive/></D:lockscope>"
    assert parse_lock(_lockinfo(exclusive + WRITE)) == LockRequest(exclusive=True, owner="")
    assert parse_lock(b"") is None
    for wrong in ("", exclusive, WRITE, exclusive + scope + WRITE, "<D:lockscope/>" + WRITE):
        with pytest.raises(UsageError):
            parse_lock(_lockinfo(wrong))
