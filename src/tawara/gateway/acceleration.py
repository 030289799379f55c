"""Builds the header fields that make nginx send a body itself; a pure module without I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

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

    Response fields that have no slot are sent by nginx's script, see `needs_script`. nginx selects the range of a local
    file itself, but only if the gateway accepted a range, too, since nginx parses malformed ranges differently.
    """
    span, headers = answer.part, answer.headers
    assert span is not None
    named: dict[str, str] = {_ETAG: headers["ETag"], _TYPE: headers["Content-Type"]}
    if (modified := headers.get("Last-Modified")) is not None:
        named[_MODIFIED] = modified
    if answer.partial:
        named[_RANGE] = f"bytes={span.start}-{span.start + span.length - 1}"
    scripted = False
    if len(headers) - (modified is not None) - answer.partial > _WITHOUT_SLOT:
        named |= {_SLOTS[name.lower()]: value for name, value in headers.items() if name.lower() in _SLOTS}
        if further := _further(headers):
            scripted = True
            named[_FIELDS] = "&".join(f"{name}={quote(value, safe='')}" for name, value in further.items())
    places = []
    for number, replica in enumerate(replicas, start=1):
        if replica.host is None:
            named[_DEVICE] = replica.path[1 : replica.path.index("/", 1)]
            places.append(nginx.local_place(number, replica.path, partial=answer.partial, scripted=scripted))
        else:
            named[nginx.url(number)] = f"http://{replica.host}{replica.path}"
            if replica.signature:  # not in the URL, which nginx may write into its error log
                named[nginx.signature(number)] = replica.signature
            places.append(nginx.remote_place(number, scripted=scripted))
    places.append(nginx.EXHAUSTED)
    named["X-Accel-Redirect"] = places[0]
    for number, name in enumerate(places[1:REPLICAS_TRIED], start=2):
        named[nginx.place(number)] = name
    return named


def needs_script(headers: Mapping[str, str]) -> bool:
    """Return whether there is a field without slot, such as user metadata, which only a script of nginx can set."""
    return bool(_further(headers))


def _further(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that nginx sends neither from a slot nor by itself."""
    return {
        name: value for name, value in headers.items() if (lower := name.lower()) not in _SLOTS and lower not in _OWN
    }


_ETAG, _MODIFIED, _TYPE, _RANGE, _DEVICE, _FIELDS = (
    str(each)
    for each in (
        *(HeaderField.ETAG, HeaderField.MODIFIED, HeaderField.TYPE, HeaderField.RANGE, HeaderField.DEVICE),
        HeaderField.FIELDS,
    )
)
_SLOTS: Final = {name.lower(): nginx.slot(name) for name in nginx.SLOTS}
_OWN: Final = frozenset(
    (
        *("etag", "last-modified", "content-type", "content-length", "content-range"),
        *("accept-ranges", "x-content-type-options", "server"),
    )
)
"""Fields that have a place of their own, or that nginx makes itself."""
_WITHOUT_SLOT: Final = 5
"""Fields of every whole file: ETag, type, length, Accept-Ranges, nosniff."""
