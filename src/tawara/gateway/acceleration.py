"""Builds the header fields that make nginx send a body itself; a pure module without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tawara.gateway import nginx_configuration as nginx
from tawara.gateway.nginx_configuration import HeaderField
from tawara.gateway.reading import ReadResponse
from tawara.model.limits import REPLICAS_TRIED


@dataclass(frozen=True, slots=True)
class ReplicaLocation:
    """One replica that nginx can read."""

    path: str
    """`/devN/…/FID.fid`."""
    host: str | None
    """`ADDRESS:PORT` of its storage node; None for a file on this machine."""


def redirect(answer: ReadResponse, replicas: Sequence[ReplicaLocation]) -> dict[str, str]:
    """Return the fields that make nginx send `answer` from the first readable one of `replicas`.

    nginx selects the range of a local file itself, but only if the gateway accepted a range, too, since nginx parses
    malformed ranges differently.
    """
    span = answer.part
    assert span is not None
    wanted = f"bytes={span.start}-{span.start + span.length - 1}" if answer.partial else ""
    local = "part" if answer.partial else "whole"
    fields = {
        HeaderField.ETAG: answer.headers["ETag"],
        HeaderField.MODIFIED: answer.headers.get("Last-Modified", ""),
        HeaderField.TYPE: answer.headers["Content-Type"],
        HeaderField.RANGE: wanted,
    }
    named: dict[str, str] = {str(name): value for name, value in fields.items()}
    for number, replica in enumerate(replicas, start=1):
        named[nginx.path(number)] = replica.path
        named[nginx.host(number)] = replica.host or ""
    places = [f"@{'remote' if replica.host else local}_{number}" for number, replica in enumerate(replicas, start=1)]
    named["X-Accel-Redirect"] = places[0] if places else nginx.EXHAUSTED
    for number, name in enumerate([*places[1:], nginx.EXHAUSTED], start=2):
        if number <= REPLICAS_TRIED:
            named[nginx.place(number)] = name
    return named
