"""Names that the gateway and nginx use between each other: header fields, steps of a request, places of replicas."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

EXHAUSTED: Final = "@exhausted"
STREAM: Final = "@stream"
METHODS: Final = "GET, HEAD, PUT, DELETE, OPTIONS"
SMALL_BODY: Final = 65_535
"""Largest body of a PUT in bytes that is sent to the gateway with the request, instead of by a file."""


class HeaderField(StrEnum):
    """The header fields between the gateway and nginx. nginx never forwards a client's field of these names."""

    STEP = "X-Tawara-Step"
    LISTENER = "X-Tawara-Listener"
    BODY = "X-Tawara-Body"
    LENGTH = "X-Tawara-Length"
    CODING = "X-Tawara-Coding"
    STATUS = "X-Tawara-Status"
    ERROR_TEXT = "X-Tawara-Error"
    CHALLENGE = "X-Tawara-Challenge"
    ETAG = "X-Tawara-Etag"
    MODIFIED = "X-Tawara-Modified"
    TYPE = "X-Tawara-Type"
    RANGE = "X-Tawara-Range"
    DEVICE = "X-Tawara-Device"
    """Name of the device of a replica on this machine."""
    APPLICATION = "X-Tawara-Application"
    """Number of the application that has named a file; see GatewayStep.FILE."""
    KEPT_TYPE = "X-Tawara-Kept-Type"
    """Content-Type of the application's response, which replaces that of the file."""
    TARGET = "X-Tawara-Target"
    """Path `/DOMAIN/KEY` of the file that an application has named."""
    CONTENT = "X-Tawara-Content"
    """Name of a file in nginx's cache: `FID-LENGTH`."""
    RANGE_REQUEST = "X-Tawara-Range-Request"
    """Range and If-Range as nginx parses them, between `<` and `>`: it treats some whitespace as part of a value."""
    FIELDS = "X-Tawara-Fields"
    """Response fields that have no slot, as in a query: `name=value&…`, percent-encoded."""
    PEER = "X-Tawara-Peer"
    """Address of the client or front end that is connected to nginx."""
    EXPECT = "X-Tawara-Expect"
    CONNECTION = "X-Tawara-Connection"
    """Expect and Connection as the client sent them: nginx does not pass them on, but a signature may cover them."""


class GatewayStep(StrEnum):
    """The step of a request for which nginx calls the gateway."""

    DECIDE = "decide"
    """Answer the request, or return the location of its bytes."""
    ADMIT = "admit"
    """Check a PUT before its body is received."""
    STORE = "store"
    """Store the body of a PUT, which is in the file named by HeaderField.BODY."""
    SMALL_PUT = "small-put"
    """Store the body of a PUT, which follows."""
    STREAM = "stream"
    """Send the body of a GET that nginx cannot send, or could not read from the given replicas."""
    FILE = "file"
    """Return the location of a file that an application has named, and has authorised."""
    FILE_STREAM = "file-stream"
    """Send the body of such a file, as STREAM."""
    APPLICATION = "application"
    """Pass a request to an application that answers with X-Reproxy-URL."""
    UNRECEIVED = "unreceived"
    """Answer a PUT whose body could not be received, or was not admitted."""
    BODY = "body"
    """Answer a request of S3 or WebDAV whose body, if any, follows as it arrives."""


FURTHER_STEPS: Final = (
    *(GatewayStep.DECIDE, GatewayStep.STREAM, GatewayStep.BODY),
    *(GatewayStep.ADMIT, GatewayStep.STORE, GatewayStep.SMALL_PUT, GatewayStep.UNRECEIVED),
)
"""The steps of requests of S3 and WebDAV."""
SLOTS: Final = (
    "Content-Disposition", "Content-Encoding", "Content-Language", "Cache-Control", "Expires", "Content-MD5",
    "Vary", "DAV", "MS-Author-Via", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers",
    "x-amz-request-id", "x-amz-id-2", "x-amz-version-id", "x-amz-storage-class", "x-amz-mp-parts-count",
    "x-amz-tagging-count", "x-amz-missing-meta", "x-amz-expiration", "x-amz-restore",
    "x-amz-server-side-encryption", "x-amz-website-redirect-location", "x-amz-checksum-type",
    "x-amz-checksum-crc32", "x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme", "x-amz-checksum-sha1",
    "x-amz-checksum-sha256", "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date",
    "x-amz-object-lock-legal-hold",
)  # fmt: skip
"""Response fields that the gateway may add to a file. nginx drops the fields of a response with X-Accel-Redirect, so
each has a field of its own, `slot`, which nginx sends under the right name; an empty one is not sent."""


def slot(name: str) -> str:
    """Return the name of the header field by which the gateway gives nginx the response field `name`."""
    return f"X-Tawara-Slot-{name}"


def place(number: int) -> str:
    """Return the name of the header field with the place of replica `number`, from 2 on."""
    return f"X-Tawara-Place-{number}"


def url(number: int) -> str:
    """Return the name of the header field with the URL of replica `number`, if it is remote."""
    return f"X-Tawara-Url-{number}"


def signature(number: int) -> str:
    """Return the name of the header field with the signature for the request of replica `number`."""
    return f"X-Tawara-Signature-{number}"


def local_place(number: int, path: str, *, partial: bool, scripted: bool = False) -> str:
    """Return the place of a replica on this machine; `path`: `/devN/…/FID.fid`; `scripted`: with HeaderField.FIELDS."""
    return f"/.tawara/{'part' if partial else 'whole'}{'-fields' if scripted else ''}/{number}{path}"


def cached_place(*, partial: bool) -> str:
    """Return the place of the first replica, at a storage node, through nginx's cache."""
    return f"@cached_{'part' if partial else 'whole'}"


def remote_place(number: int, *, scripted: bool = False) -> str:
    """Return the place of a replica at a storage node; `scripted`: with HeaderField.FIELDS."""
    return f"@remote_{'fields_' if scripted else ''}{number}"
