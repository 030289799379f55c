"""Renders XML responses of WebDAV in pieces: multi-status, properties, errors (RFC 4918, sections 13 to 16).

A response for a large collection is sent while it is made: `OPENING`, then any number of responses, then `CLOSING`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from tawara.wire.dav.documents import DAV, PropertyName

OPENING: Final = b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
CLOSING: Final = b"</D:multistatus>\n"
_NOT_IN_XML: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SUPPORTED_LOCKS: Final = (
    "<D:supportedlock>"
    "<D:lockentry><D:lockscope><D:exclusive/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
    "<D:lockentry><D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype></D:lockentry>"
    "</D:supportedlock>"
)


@dataclass(frozen=True, slots=True)
class PropertyStatus:
    """Properties of a resource with the same status; the properties are elements as XML."""

    status: int
    properties: Sequence[str]


@dataclass(frozen=True, slots=True)
class ActiveLock:
    """What `lockdiscovery` shows of a lock (RFC 4918, section 14.1)."""

    token: str
    exclusive: bool
    deep: bool
    root: str
    """The path of the locked resource, percent-encoded."""
    seconds: int
    """Seconds until it expires."""
    owner: str = ""
    """The client's `owner` element as XML."""


def text(content: str) -> str:
    """Escape text; characters that XML 1.0 cannot contain are replaced by U+FFFD."""
    return escape(_NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", content))


def element(name: PropertyName, content: str = "") -> str:
    """Render a property with `content`, which is XML; it declares its namespace unless that is DAV:."""
    if name.namespace == DAV:
        opening = label = f"D:{name.name}"
    elif name.namespace:
        label = f"p:{name.name}"
        opening = f"{label} xmlns:p={quoteattr(name.namespace)}"
    else:
        opening = label = name.name
    return f"<{opening}>{content}</{label}>" if content else f"<{opening}/>"


def response(href: str, statuses: Iterable[PropertyStatus]) -> bytes:
    """Render a resource's properties by status, for PROPFIND and PROPPATCH; statuses without properties are left out.

    `href` is a percent-encoded path.
    """
    parts = [
        f"<D:propstat><D:prop>{''.join(each.properties)}</D:prop>{_status(each.status)}</D:propstat>"
        for each in statuses
        if each.properties
    ]
    # A response has at least one propstat (RFC 4918, section 14.24), even without any of the properties asked for
    content = "".join(parts) or f"<D:propstat><D:prop/>{_status(200)}</D:propstat>"
    return f"<D:response><D:href>{text(href)}</D:href>{content}</D:response>\n".encode()


def failure(href: str, status: int, condition: str | None = None) -> bytes:
    """Render a resource on which a method failed; `condition` names the precondition (RFC 4918, section 16)."""
    error = f"<D:error><D:{condition}/></D:error>" if condition else ""
    return f"<D:response><D:href>{text(href)}</D:href>{_status(status)}{error}</D:response>\n".encode()


def error(condition: str, hrefs: Sequence[str] = ()) -> bytes:
    """Render the body of an error: the violated condition and its resources (RFC 4918, section 16)."""
    content = "".join(f"<D:href>{text(each)}</D:href>" for each in hrefs)
    named = element(PropertyName(DAV, condition), content)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<D:error xmlns:D="DAV:">{named}</D:error>\n'.encode()


def lock_discovery(locks: Iterable[ActiveLock]) -> str:
    """Render the property `lockdiscovery` (RFC 4918, section 15.8)."""
    return element(PropertyName(DAV, "lockdiscovery"), "".join(map(_active, locks)))


def lock_response(locks: Iterable[ActiveLock]) -> bytes:
    """Render the body of a successful LOCK (RFC 4918, section 9.10.1)."""
    discovery = lock_discovery(locks)
    return f'<?xml version="1.0" encoding="utf-8"?>\n<D:prop xmlns:D="DAV:">{discovery}</D:prop>\n'.encode()


def _active(lock: ActiveLock) -> str:
    scope = "exclusive" if lock.exclusive else "shared"
    return (
        f"<D:activelock><D:locktype><D:write/></D:locktype><D:lockscope><D:{scope}/></D:lockscope>"
        f"<D:depth>{'infinity' if lock.deep else '0'}</D:depth>{lock.owner}"
        f"<D:timeout>Second-{lock.seconds}</D:timeout>"
        f"<D:locktoken><D:href>{text(lock.token)}</D:href></D:locktoken>"
        f"<D:lockroot><D:href>{text(lock.root)}</D:href></D:lockroot></D:activelock>"
    )


def _status(status: int) -> str:
    return f"<D:status>HTTP/1.1 {status} {HTTPStatus(status).phrase}</D:status>"
