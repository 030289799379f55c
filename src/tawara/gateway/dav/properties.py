"""Live properties of WebDAV's resources, and responses to PROPFIND: values in, XML out (RFC 4918, section 15)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeAlias

from tawara.gateway import reading
from tawara.model.files import StoredFile
from tawara.model.listing_page import ListedKey
from tawara.wire.dav import multistatus
from tawara.wire.dav.documents import DAV, PropertyName, Propfind, PropfindKind
from tawara.wire.dav.multistatus import PropertyStatus, element, text
from tawara.wire.http import entity_tag, http_date

AnyFile: TypeAlias = StoredFile | ListedKey | None
"""A file as it was found or listed; None for a collection."""


@dataclass(frozen=True, slots=True)
class ShownResource:
    """What PROPFIND needs to know of a resource."""

    href: str
    path: bytes
    file: AnyFile
    dead: Mapping[PropertyName, str] = field(default_factory=dict)
    """Properties that clients have set, as XML."""
    locks: str = "<D:lockdiscovery/>"
    """The property `lockdiscovery`."""
    free: int | None = None
    """Bytes that can be stored; None if that is not known."""
    used: int | None = None
    """Bytes that are stored."""


def _when(shape: Callable[[int], str], file: AnyFile) -> str | None:
    return None if file is None or file.stored_at is None else shape(file.stored_at)


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _type(shown: ShownResource) -> str | None:
    if isinstance(shown.file, StoredFile):
        return reading.type_of(shown.file)
    return None if shown.file is None else reading.type_by_name(shown.path)


_LIVE: Final[Mapping[str, Callable[[ShownResource], str | None]]] = {
    "creationdate": lambda shown: _when(_iso, shown.file),
    "displayname": lambda shown: text(shown.path.rpartition(b"/")[2].decode("utf-8", "replace")),
    "getcontentlength": lambda shown: None if shown.file is None else str(shown.file.length),
    "getcontenttype": lambda shown: None if (found := _type(shown)) is None else text(found),
    "getetag": lambda shown: None if shown.file is None else text(entity_tag(shown.file.fid, shown.file.length)),
    "getlastmodified": lambda shown: _when(http_date, shown.file),
    "resourcetype": lambda shown: "<D:collection/>" if shown.file is None else "",
}
"""By name: the content of a live property as XML; None if the resource does not have it."""
_WHOLE: Final[Mapping[str, Callable[[ShownResource], str]]] = {
    "lockdiscovery": lambda shown: shown.locks,
    "supportedlock": lambda _: multistatus.SUPPORTED_LOCKS,
}
"""By name: a live property as a whole element."""
_QUOTA: Final[Mapping[str, Callable[[ShownResource], int | None]]] = {
    "quota-available-bytes": lambda shown: shown.free,
    "quota-used-bytes": lambda shown: shown.used,
}
"""By name: properties of collections that are returned only to those who name them (RFC 4331)."""
PROTECTED: Final = frozenset(PropertyName(DAV, name) for name in (*_LIVE, *_WHOLE, *_QUOTA)) - {
    PropertyName(DAV, "displayname")
}
"""Properties that clients cannot set; with `displayname`, what a client sets is shown in place of the file's name."""
QUOTA: Final = frozenset(PropertyName(DAV, name) for name in _QUOTA)


def response(shown: ShownResource, asked: Propfind) -> bytes:
    """Render a resource's response to PROPFIND."""
    if asked.kind is PropfindKind.NAMES:
        return multistatus.response(shown.href, [PropertyStatus(200, [element(each) for each in _present(shown)])])
    found = _present(shown) if asked.kind is PropfindKind.ALL else {}
    missing = []
    for name in asked.names:
        if (rendered := _render(shown, name)) is not None:
            found[name] = rendered
        else:
            missing.append(element(name))
    statuses = [PropertyStatus(200, list(found.values())), PropertyStatus(404, missing)]
    return multistatus.response(shown.href, statuses)


def _present(shown: ShownResource) -> dict[PropertyName, str]:
    """Return the properties that a resource has, without quotas, as elements."""
    found = {}
    for name, value in _LIVE.items():
        if (content := value(shown)) is not None:
            found[PropertyName(DAV, name)] = element(PropertyName(DAV, name), content)
    for name, whole in _WHOLE.items():
        found[PropertyName(DAV, name)] = whole(shown)
    return found | dict(shown.dead)


def _render(shown: ShownResource, name: PropertyName) -> str | None:
    """Return a property as an element; None if the resource does not have it."""
    if (dead := shown.dead.get(name)) is not None:
        return dead
    if name.namespace != DAV:
        return None
    if (whole := _WHOLE.get(name.name)) is not None:
        return whole(shown)
    if (quota := _QUOTA.get(name.name)) is not None:
        count = quota(shown) if shown.file is None else None
        return None if count is None else element(name, str(count))
    live = _LIVE.get(name.name)
    content = None if live is None else live(shown)
    return None if content is None else element(name, content)
