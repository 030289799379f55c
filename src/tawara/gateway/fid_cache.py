"""Decides whether nginx sends a file of another machine through its cache, and which gateway's cache is asked.

A fid's bytes never change, so nothing in the cache is ever stale. Each file has one gateway that caches it
(model.cache_owners); the others ask that gateway's nginx, and fetch the file themselves only if it does not answer. A
file that is hot is cached by every gateway that reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tawara.gateway.acceleration import ReplicaLocation, needs_script
from tawara.gateway.nginx_protocol import HeaderField, cached_place, remote_place
from tawara.gateway.reading import ReadResponse
from tawara.gateway.responses import to_nginx
from tawara.http1.reply import Reply
from tawara.model.cache_owners import cache_owner
from tawara.model.cache_settings import CacheSettings
from tawara.model.files import StoredFile
from tawara.model.hot_files import HotFiles

_ACCEL: Final = "X-Accel-Redirect"


@dataclass(frozen=True, slots=True)
class CachedSource:
    """Where nginx reads a file."""

    replicas: Sequence[ReplicaLocation]
    """The replicas to try; the first may be another gateway's cache."""
    content: str = ""
    """The name of the file in this gateway's cache; empty: it is not sent through the cache."""


class FidCache:
    """Chooses between this gateway's cache, another one's, and none."""

    def __init__(
        self,
        settings: CacheSettings,
        *,
        reachable: Callable[[str], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`reachable`: whether the gateway with that address answers; `clock` returns seconds."""
        self._settings, self._reachable, self._clock = settings, reachable, clock
        self._hot = HotFiles(settings.hot_rate)

    def choose(self, stored: StoredFile, replicas: Sequence[ReplicaLocation]) -> CachedSource:
        """Return where nginx reads the file, of which `replicas` can be read."""
        settings = self._settings
        if not replicas or replicas[0].host is None or not 0 < stored.length <= settings.file:
            return CachedSource(replicas)
        content = f"{stored.fid}-{stored.length}"
        owner = self._owner(stored.fid)
        if owner == settings.listen:
            return CachedSource(replicas, content)
        hot = self._hot.count(stored.fid, self._clock())
        return CachedSource([self._at_peer(owner, content, replicas[0]), *replicas], content if hot else "")

    def _owner(self, fid: int) -> str:
        own = self._settings.listen
        others = [each for each in self._settings.peers if each != own and self._reachable(each)]
        return cache_owner([own, *others], fid) if others else own

    def _at_peer(self, owner: str, content: str, replica: ReplicaLocation) -> ReplicaLocation:
        """Return the file in the cache of `owner`, which reads it from `replica` if it has not got it."""
        return ReplicaLocation(
            f"/{content}/{replica.host}{replica.path}", owner, f"{self._settings.secret} {replica.signature}".rstrip()
        )


def reply_by_nginx(
    cache: FidCache | None, answer: ReadResponse, stored: StoredFile, replicas: Sequence[ReplicaLocation]
) -> Reply:
    """Return the reply by which nginx sends a file, through its cache if that is for it. Raises NoSource."""
    if cache is None or needs_script(answer.headers):  # the places of the cache have no script
        return to_nginx(answer, replicas)
    source = cache.choose(stored, replicas)
    reply = to_nginx(answer, source.replicas)
    if not source.content:
        return reply
    return reply._replace(fields=through_cache(reply.fields, source.content, partial=answer.partial))


def through_cache(fields: Mapping[str, str], content: str, *, partial: bool) -> dict[str, str]:
    """Return the fields by which nginx sends a file through its cache; `fields`: those that name the remote replica."""
    assert fields[_ACCEL] == remote_place(1)
    return {**fields, _ACCEL: cached_place(partial=partial), HeaderField.CONTENT: content}
