"""XML responses of WebDAV, read back by a parser."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from tawara.wire.dav import multistatus
from tawara.wire.dav.documents import PropertyName
from tawara.wire.dav.multistatus import ActiveLock, PropertyStatus

SIZE = PropertyName("DAV:", "getcontentlength")
NAMES = st.builds(
    PropertyName, st.text(alphabet="DAV:urn/&<\"'x", max_size=8), st.from_regex(r"[a-z]{1,8}", fullmatch=True)
)


def is_xml(character: str) -> bool:
    """Whether XML 1.0 allows the character (production 2)."""
    code = ord(character)
    return code in (9, 10) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000


def parse(*responses: bytes) -> ElementTree.Element:
    """Parse a multi-status body of these responses."""
    return ElementTree.fromstring(multistatus.OPENING + b"".join(responses) + multistatus.CLOSING)


@given(NAMES, st.text(st.characters(exclude_characters="\r")))  # a parser turns CR into LF
def test_any_property_is_read_back(name: PropertyName, content: str) -> None:
    """Names of any namespace and any text make well-formed XML; what XML cannot hold is replaced."""
    found = parse(
        multistatus.response("/d/k", [PropertyStatus(200, [multistatus.element(name, multistatus.text(content))])])
    )
    prop = found.find("{DAV:}response/{DAV:}propstat/{DAV:}prop")
    assert prop is not None
    assert prop[0].tag == (f"{{{name.namespace}}}{name.name}" if name.namespace else name.name)
    assert (prop[0].text or "") == "".join(each if is_xml(each) else "\N{REPLACEMENT CHARACTER}" for each in content)


def test_properties_are_grouped_by_status() -> None:
    """Each status has its properties; one without any is left out."""
    found = parse(
        multistatus.response(
            "/d/a%26b",
            [
                PropertyStatus(200, [multistatus.element(SIZE, "5")]),
                PropertyStatus(404, [multistatus.element(PropertyName("urn:x", "a"))]),
                PropertyStatus(403, []),
            ],
        )
    )
    assert found.findtext("{DAV:}response/{DAV:}href") == "/d/a%26b"
    statuses = [each.text for each in found.iter("{DAV:}status")]
    assert statuses == ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found"]


def test_a_response_always_has_a_propstat() -> None:
    """A resource without any of the properties still has a status (14.24)."""
    found = parse(multistatus.response("/d/", [PropertyStatus(404, [])]))
    assert found.findtext("{DAV:}response/{DAV:}propstat/{DAV:}status") == "HTTP/1.1 200 OK"


def test_failures_name_what_is_violated() -> None:
    """A member on which a method failed has its own status and, if there is one, precondition."""
    found = parse(multistatus.failure("/d/x", 423, "lock-token-submitted"), multistatus.failure("/d/y", 507))
    assert [each.text for each in found.iter("{DAV:}status")] == [
        "HTTP/1.1 423 Locked",
        "HTTP/1.1 507 Insufficient Storage",
    ]
    assert found.find("{DAV:}response/{DAV:}error/{DAV:}lock-token-submitted") is not None
    error = ElementTree.fromstring(multistatus.error("lock-token-submitted", ["/d/x"]))
    assert (error.tag, error.findtext("{DAV:}lock-token-submitted/{DAV:}href")) == ("{DAV:}error", "/d/x")
    assert multistatus.error("propfind-finite-depth").endswith(b"<D:propfind-finite-depth/></D:error>\n")


def test_locks_are_shown() -> None:
    """A lock is shown with its scope, depth, owner, time, token and root (14.1)."""
    owner = '<o:owner xmlns:o="DAV:">Anna</o:owner>'
    locks = [ActiveLock("urn:uuid:1", True, True, "/d/a", 60, owner), ActiveLock("urn:uuid:2", False, False, "/d/b", 5)]
    found = ElementTree.fromstring(multistatus.lock_response(locks))
    first, second = found.iter("{DAV:}activelock")
    assert first.find("{DAV:}lockscope/{DAV:}exclusive") is not None
    assert second.find("{DAV:}lockscope/{DAV:}shared") is not None
    values = ["{DAV:}depth", "{DAV:}timeout", "{DAV:}locktoken/{DAV:}href", "{DAV:}lockroot/{DAV:}href", "{DAV:}owner"]
    assert [first.findtext(each) for each in values] == ["infinity", "Second-60", "urn:uuid:1", "/d/a", "Anna"]
    assert [second.findtext(each) for each in values] == ["0", "Second-5", "urn:uuid:2", "/d/b", None]
    ElementTree.fromstring(f'<D:a xmlns:D="DAV:">{multistatus.SUPPORTED_LOCKS}</D:a>')
