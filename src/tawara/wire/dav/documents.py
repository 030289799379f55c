"""Reads the XML bodies of PROPFIND, PROPPATCH and LOCK (RFC 4918, section 14), within limits.

A document type declaration is refused, and with it all entities that are not predefined. Unknown elements are ignored,
as RFC 4918, section 17 demands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tawara.model.errors import UsageError

LONGEST: Final = 1024 * 1024
"""Most bytes of a document."""
DEEPEST: Final = 64
"""Most levels of elements."""
MOST_ELEMENTS: Final = 20_000
MOST_PROPERTIES: Final = 1000
"""Most properties that a request may name."""
LONGEST_VALUE: Final = 32 * 1024
"""Most bytes of a property's value, as XML."""
DAV: Final = "DAV:"
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"


class PropertyName(NamedTuple):
    """A property's namespace, which may be empty, and local name."""

    namespace: str
    name: str


class PropfindKind(Enum):
    """What a PROPFIND asks for (RFC 4918, section 9.1)."""

    ALL = "allprop"
    NAMES = "propname"
    SOME = "prop"


@dataclass(frozen=True, slots=True)
class Propfind:
    """The request of PROPFIND; `names` are the properties asked for, with ALL those included in addition."""

    kind: PropfindKind
    names: tuple[PropertyName, ...] = ()


@dataclass(frozen=True, slots=True)
class PropertyChange:
    """One instruction of a PROPPATCH: a property's new value, or its removal."""

    name: PropertyName
    value: str | None
    """The property's element as XML that declares its own namespaces; None: remove the property."""


@dataclass(frozen=True, slots=True)
class LockRequest:
    """The request of LOCK for a new lock."""

    exclusive: bool
    owner: str
    """The client's `owner` element as XML; empty if it sent none. Returned unchanged (RFC 4918, section 14.17)."""


def parse_propfind(body: bytes) -> Propfind:
    """Read the body of PROPFIND; an empty one asks for all properties. Raises UsageError."""
    if not body.strip():
        return Propfind(PropfindKind.ALL)
    document = _parse(body, "propfind")
    for kind in PropfindKind:
        if (found := document.find(f"{{{DAV}}}{kind.value}")) is not None:
            included = document.find(f"{{{DAV}}}include") if kind is PropfindKind.ALL else found
            return Propfind(kind, () if included is None else _bounded([_name_of(each) for each in included]))
    raise UsageError("The body of PROPFIND needs one of prop, allprop and propname")


def parse_proppatch(body: bytes) -> tuple[PropertyChange, ...]:
    """Read the body of PROPPATCH; the changes are in the order in which they apply. Raises UsageError."""
    document = _parse(body, "propertyupdate")
    changes = tuple(_changes(document))
    if not changes:
        raise UsageError("The body of PROPPATCH changes no property")
    _bounded([each.name for each in changes])
    if any(len((each.value or "").encode()) > LONGEST_VALUE for each in changes):
        raise UsageError(f"The value of a property has at most {LONGEST_VALUE} bytes")
    return changes


def parse_lock(body: bytes) -> LockRequest | None:
    """Read the body of LOCK; None if it is empty: refresh (RFC 4918, section 9.10.2). Raises UsageError."""
    if not body.strip():
        return None
    document = _parse(body, "lockinfo")
    if document.find(f"{{{DAV}}}locktype/{{{DAV}}}write") is None:
        raise UsageError("A lock must be of the type write")
    scopes = [
        scope for scope in ("exclusive", "shared") if document.find(f"{{{DAV}}}lockscope/{{{DAV}}}{scope}") is not None
    ]
    if len(scopes) != 1:
        raise UsageError("A lock must be either exclusive or shared")
    owner = document.find(f"{{{DAV}}}owner")
    return LockRequest(scopes == ["exclusive"], "" if owner is None else _text(owner, _language(document, "")))


def _changes(document: Element) -> Iterator[PropertyChange]:
    language = _language(document, "")
    for action in document:
        if action.tag not in (f"{{{DAV}}}set", f"{{{DAV}}}remove"):
            continue
        setting = action.tag == f"{{{DAV}}}set"
        within = _language(action, language)
        for prop in action.iterfind(f"{{{DAV}}}prop"):
            for each in prop:
                yield PropertyChange(_name_of(each), _text(each, _language(prop, within)) if setting else None)


def _language(element: Element, inherited: str) -> str:
    return element.get(_LANGUAGE, inherited)


def _text(element: Element, language: str) -> str:
    """Return the element as XML, with the language in whose scope it is (RFC 4918, section 4.3)."""
    if language and _LANGUAGE not in element.attrib:
        element.set(_LANGUAGE, language)
    element.tail = None
    return ElementTree.tostring(element, encoding="unicode")


def _name_of(element: Element) -> PropertyName:
    namespace, closing, name = element.tag[1:].partition("}")
    return PropertyName(namespace, name) if closing else PropertyName("", element.tag)


def _bounded(names: list[PropertyName]) -> tuple[PropertyName, ...]:
    if len(names) > MOST_PROPERTIES:
        raise UsageError(f"The body names more than {MOST_PROPERTIES} properties")
    return tuple(dict.fromkeys(names))


def _parse(body: bytes, root: str) -> Element:
    """Parse a document whose root element is `root` of the namespace DAV:. Raises UsageError."""
    if len(body) > LONGEST:
        raise UsageError("The body is too long")
    parser = ElementTree.XMLParser(target=_Limited())  # noqa: S314 -- _Limited refuses declarations, and thus entities
    try:
        parser.feed(body)
        document: Element = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError):
        raise UsageError("The body is not well-formed XML") from None
    if document.tag != f"{{{DAV}}}{root}":
        raise UsageError(f"The body must be a {root} element of the namespace DAV:")
    return document


class _Limited(ElementTree.TreeBuilder):
    """Builds a tree and refuses documents that exceed the limits."""

    def __init__(self) -> None:
        super().__init__()
        self._elements = 0
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._elements += 1
        self._depth += 1
        if self._elements > MOST_ELEMENTS or self._depth > DEEPEST:
            raise UsageError("The body has too many elements, or too many levels of them")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)

    def doctype(self, *_: object) -> None:
        raise UsageError("The body must not have a document type declaration")
