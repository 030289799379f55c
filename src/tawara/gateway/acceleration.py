"""Builds the header fields that make nginx send a body itself; a pure module without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tawara.gateway import nginx_protocol as nginx
from tawara.gateway.nginx_protocol import HeaderField
from tawara.gateway.reading import ReadResponse
from tawara.model.limits import REPLICAS_TRIED


@dataclass(frozen=True, slots=True)
class ReplicaLocation:
    """One replica that nginx can read."""

    path: str
    """`/devN/…/FID.fid`."""
    host: str | None
    """`ADDRESS:PORT` of its storage node; None for a file on this machine."""
    signature: str = ""
    """Signature of the request to the storage node; empty if it needs none."""


def redirect(answer: ReadResponse, replicas: Sequence[ReplicaLocation]) -> dict[str, str]:
    """Return the fields that make nginx send `answer` from the first readable one of `replicas`; at most one is local.

    nginx selects the range of a local file itself, but only if the gateway accepted a range, too, since nginx parses
    malformed ranges differently.
    """
    span, headers = answer.part, answer.headers
    assert span is not None
    named: dict[str, str] = {_ETAG: headers["ETag"], _TYPE: headers["Content-Type"]}
    if (modified := headers.get("Last-Modified")) is not None:
        named[_MODIFIED] = modified
    if answer.partial:
        named[_RANGE] = f"bytes={span.start}-{span.start + span.length - 1}"
    if len(headers) > _USUAL:
        named |= {nginx.slot(name): headers[name] for name in nginx.SLOTS if name in headers}
    places = []
    for number, replica in enumerate(replicas, start=1):
        if replica.host is None:
            named[_DEVICE] = replica.path[1 : replica.path.index("/", 1)]
            places.append(nginx.local_place(number, replica.path, partial=answer.partial))
        else:
            named[nginx.url(number)] = f"http://{replica.host}{replica.path}"
            if replica.signature:  # not in the URL, which nginx may write into its error log
                named[nginx.signature(number)] = replica.signature
            places.append(nginx.remote_place(number))
    places.append(nginx.EXHAUSTED)
    named["X-Accel-Redirect"] = places[0]
    for number, name in enumerate(places[1:REPLICAS_TRIED], start=2):
        named[nginx.place(number)] = name
    return named


_ETAG, _MODIFIED, _TYPE, _RANGE, _DEVICE = (
    str(each)
    for each in (HeaderField.ETAG, HeaderField.MODIFIED, HeaderField.TYPE, HeaderField.RANGE, HeaderField.DEVICE)
)
_USUAL: Final = 5
"""Fields of every whole file: ETag, type, length, Accept-Ranges, nosniff."""
