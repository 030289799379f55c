"""Answers GET and HEAD of a file: by nginx, by a front end that reproxies, or by streaming the body."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from aiohttp import hdrs, web

from tawara.gateway import reading, responses
from tawara.gateway.acceleration import ReplicaLocation
from tawara.gateway.body_sender import send_body
from tawara.gateway.fid_cache import FidCache, reply_by_nginx
from tawara.gateway.nginx_parameters import NginxFeatures
from tawara.gateway.nginx_protocol import HeaderField
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.requests import HttpRequest, conditions
from tawara.http1.reply import TEXT_FIELDS, Reply, text_reply
from tawara.metadata.view import ClusterView
from tawara.model.cluster import Domain
from tawara.model.errors import NoSource, PreconditionFailed
from tawara.model.files import StoredFile
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.streaming import read_somewhere
from tawara.wire import ranges
from tawara.wire.http import Conditions
from tawara.wire.signatures import NodeRight

_LOOKUPS: Final = 20
"""Maximum look-ups of a key for one GET while the key is overwritten repeatedly."""


class GetHandler:
    """Reads files for clients."""

    def __init__(
        self,
        view: ClusterView,
        nodes: NodeClient,
        store: FileStore,
        nginx_replicas: NginxReplicas,
        *,
        reproxy: bool,
        limits: Limits,
        rng: random.Random,
        features: NginxFeatures = NginxFeatures(),  # noqa: B008 - a frozen value
        cache: FidCache | None = None,
    ) -> None:
        self._view, self._nodes, self._store, self._nginx_replicas = view, nodes, store, nginx_replicas
        self._locator = ReplicaLocator(view, nodes, rng)
        self._reproxy, self._limits, self._features = reproxy, limits, features
        self._cache = cache
        self.streamed = 0
        """Bytes of bodies that were sent by Python."""

    async def handle(
        self, request: HttpRequest, domain: Domain, key: bytes, *, by_nginx: bool, content_type: str = ""
    ) -> Reply | web.StreamResponse:
        """Answer a GET or HEAD; `by_nginx`: nginx is in front and can send the body.

        `content_type` replaces that of the file, unless it is empty. Raises UnknownKey, NoSource.
        """
        stored = await self._store.find(domain, key)
        for _ in range(_LOOKUPS):
            try:
                return await self._respond(request, stored, content_type, by_nginx=by_nginx)
            except NoSource:  # before the first byte
                now = await self._store.find(domain, key)
                if (now.fid, now.devids) == (stored.fid, stored.devids):
                    raise
                stored = now  # overwritten or moved since the look-up, and its bytes are already deleted
        raise NoSource

    async def _respond(
        self, request: HttpRequest, stored: StoredFile, content_type: str, *, by_nginx: bool
    ) -> Reply | web.StreamResponse:
        """Answer with this content. Raises NoSource while nothing is sent."""
        asked, head = conditions(request), request.method == "HEAD"
        answer = reading.decide(stored, asked, request.headers.get(hdrs.RANGE), head=head)
        if content_type and hdrs.CONTENT_TYPE in answer.headers:
            answer = replace(answer, headers={**answer.headers, hdrs.CONTENT_TYPE: content_type})
        if answer.status == 412:
            return text_reply(412, PreconditionFailed.message)
        if answer.status == 416:
            return text_reply(416, "No byte of the file is in the range", {**TEXT_FIELDS, **answer.headers})
        if answer.part is None:
            return Reply(answer.status, dict(answer.headers), part=ranges.Span(0, stored.length) if head else None)
        devids = await self._locator.devices(stored)
        if self._reproxy and "reproxy-file" in (request.headers.get("X-Proxy-Capabilities") or ""):
            return responses.reproxied(stored, self._client_urls(stored, devids))
        if not by_nginx:
            assert isinstance(request, web.BaseRequest)
            return await self._stream(request, answer, self._locator.urls(stored, devids), stored.length)
        if not (self._features.clears_fields or _nginx_agrees(request, asked, answer)):
            return responses.STREAMED_BY_PYTHON
        replicas: Sequence[ReplicaLocation] = await self._nginx_replicas.of(self._view.current, stored, devids)
        return reply_by_nginx(self._cache, answer, stored, replicas)

    def _client_urls(self, stored: StoredFile, devids: Sequence[int]) -> list[str]:
        """Return the URLs of the replicas for a front end, signed if storage nodes require that."""
        urls, signer = self._locator.urls(stored, devids), self._nodes.signer
        return urls if signer is None else [signer.url(NodeRight.READ, url) for url in urls]

    async def _stream(
        self, request: web.BaseRequest, answer: reading.ReadResponse, urls: list[str], size: int
    ) -> web.StreamResponse:
        """Send the body. Raises NoSource while nothing is sent, ConnectionResetError afterwards."""
        assert answer.part is not None
        pieces = read_somewhere(self._nodes, urls, answer.part, size, timeout=self._limits.node_answer)
        timeout = self._limits.stalled_body
        return await send_body(request, answer.status, answer.headers, pieces, timeout=timeout, count=self._count)

    def _count(self, length: int) -> None:
        self.streamed += length


def _nginx_agrees(request: HttpRequest, conditions: Conditions, answer: reading.ReadResponse) -> bool:
    """Return whether an nginx that evaluates the client's conditions and range itself would send the same part."""
    if conditions.guarded:
        return False
    if not answer.partial:
        return True
    asked, guard = request.headers[hdrs.RANGE], request.headers.get(hdrs.IF_RANGE) or ""
    if request.headers.get(HeaderField.RANGE_REQUEST) != f"<{asked}><{guard}>":
        return False
    return ranges.is_plain(asked) and guard in ("", answer.headers["ETag"], answer.headers.get("Last-Modified"))
