"""Properties of WebDAV's resources, read back by a parser."""

from __future__ import annotations

from xml.etree import ElementTree

from tawara.gateway.dav import properties
from tawara.gateway.dav.properties import ShownResource
from tawara.model.files import StoredFile
from tawara.model.listing_page import ListedKey
from tawara.wire.dav import multistatus
from tawara.wire.dav.documents import PropertyName, Propfind, PropfindKind

FILE = StoredFile(7, 1, b"a/b.txt", 10, 0, 1, (1,), stored_at=86_400)
TITLE = PropertyName("urn:x", "title")
EVERYTHING = Propfind(PropfindKind.ALL)


def shown(resource: ShownResource, asked: Propfind = EVERYTHING) -> dict[str, dict[str, str | None]]:
    """The properties of a response: status -> name -> text."""
    body = multistatus.OPENING + properties.response(resource, asked) + multistatus.CLOSING
    found: dict[str, dict[str, str | None]] = {}
    for each in ElementTree.fromstring(body).iter("{DAV:}propstat"):
        status, prop = each.findtext("{DAV:}status"), each.find("{DAV:}prop")
        assert status is not None
        assert prop is not None
        found[status.split()[1]] = {one.tag.replace("{DAV:}", ""): one.text for one in prop}
    return found


def test_a_file_has_its_live_properties() -> None:
    """A file shows name, size, type, entity tag and times; a listed one the same, with the type of its name."""
    found = shown(ShownResource("/d/a/b.txt", b"a/b.txt", FILE))["200"]
    assert found == {
        "creationdate": "1970-01-02T00:00:00Z",
        "displayname": "b.txt",
        "getcontentlength": "10",
        "getcontenttype": "text/plain",
        "getetag": found["getetag"],
        "getlastmodified": "Fri, 02 Jan 1970 00:00:00 GMT",
        "resourcetype": None,
        "lockdiscovery": None,
        "supportedlock": None,
    }
    listed = ListedKey(b"a/b.txt", 7, 10, 0, 86_400, None)
    assert shown(ShownResource("/d/a/b.txt", b"a/b.txt", listed))["200"] == found


def test_a_file_of_unknown_time_shows_none() -> None:
    """A file that MogileFS stored has no times."""
    found = shown(ShownResource("/d/k", b"k", StoredFile(7, 1, b"k", 10, 0, 1)))["200"]
    assert "getlastmodified" not in found
    assert "creationdate" not in found


def test_a_collection_has_no_size() -> None:
    """A collection is one by its type, and has neither size, type nor entity tag."""
    found = shown(ShownResource("/d/a/", b"a", None))["200"]
    assert set(found) == {"displayname", "resourcetype", "lockdiscovery", "supportedlock"}


def test_only_what_is_asked_for() -> None:
    """Named properties are found or missing, quotas only when they are named, and names have no values."""
    names = tuple(PropertyName("DAV:", name) for name in ("getcontentlength", "quota-used-bytes", "displayname"))
    asked = Propfind(PropfindKind.SOME, (*names, TITLE))
    resource = ShownResource("/d/a/", b"a", None, dead={TITLE: '<t:title xmlns:t="urn:x">T</t:title>'}, free=5, used=0)
    assert shown(resource, asked) == {
        "200": {"quota-used-bytes": "0", "displayname": "a", "{urn:x}title": "T"},
        "404": {"getcontentlength": None},
    }
    of_file = shown(ShownResource("/d/k", b"k", FILE, used=1), Propfind(PropfindKind.SOME, names[1:2]))
    assert of_file == {"404": {"quota-used-bytes": None}}
    listed = shown(resource, Propfind(PropfindKind.NAMES))["200"]
    assert set(listed.values()) == {None}
    assert "{urn:x}title" in listed


def test_what_clients_may_not_set() -> None:
    """Live properties are protected, but for the name that is shown, which a client may choose."""
    assert PropertyName("DAV:", "getetag") in properties.PROTECTED
    assert PropertyName("DAV:", "quota-used-bytes") in properties.PROTECTED
    assert PropertyName("DAV:", "displayname") not in properties.PROTECTED
    name = {PropertyName("DAV:", "displayname"): '<D:displayname xmlns:D="DAV:">n</D:displayname>'}
    chosen = ShownResource("/d/k", b"k", FILE, dead=name)
    assert shown(chosen)["200"]["displayname"] == "n"
