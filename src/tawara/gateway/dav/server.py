"""The WebDAV listener: starts and stops its HTTP server, turns errors into replies.

Behind nginx the bodies of GET and PUT are sent and received by nginx, as those of plain HTTP.
"""

from __future__ import annotations

import random
import socket
from functools import partial
from typing import Final
from urllib.parse import unquote

from aiohttp import hdrs

from tawara.gateway import responses
from tawara.gateway.authenticator import Authenticator
from tawara.gateway.dav.locks import DavLocks
from tawara.gateway.dav.methods import METHODS, XML_TYPE, DavMethods
from tawara.gateway.dav.requests import DavPutParser, DavRequestParser
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.http_server import ErrorForm, put_handlers
from tawara.gateway.nginx_protocol import FURTHER_STEPS, GatewayStep
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.protocol_listener import GatewayParts, ProtocolListener
from tawara.gateway.put_handlers import StreamedPutHandler
from tawara.gateway.requests import HttpRequest
from tawara.http1.reply import Reply
from tawara.instruments import RequestMeter
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.errors import InfiniteDepth, Locked, LockNotThere
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.collections import Collections
from tawara.store.file_assembler import FileAssembler
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter
from tawara.wire.dav import multistatus
from tawara.wire.http import path_of

_PURPOSE: Final = "the WebDAV listener"


class DavServer:
    """Serves WebDAV. Start and stop it once, or give it to a gateway that does it."""

    protocol = ListenerProtocol.DAV

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        wakeups: Wakeups,
        *,
        listen: tuple[str, int] | socket.socket,
        secret: str,
        access_keys: AccessKeys,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        """Listen on a host and port (0: any free one). `secret`: the bearer token that may do everything."""
        self._metadata, self._view, self._nodes, self._wakeups = metadata, view, nodes, wakeups
        self._limits = limits
        self._authenticator = Authenticator(access_keys, secret=secret, public_reads=False)
        self._listener = ProtocolListener(
            ListenerProtocol.DAV, listen, _PURPOSE, limits, ErrorForm(refusal, responses.bare_verdict)
        )
        self._writer: FileWriter | None = None
        self._get: GetHandler | None = None

    @property
    def meter(self) -> RequestMeter:
        """Counts of the requests."""
        return self._listener.meter

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which the started server listens."""
        return self._listener.address

    @property
    def streamed(self) -> int:
        """Bytes of files that Python has sent to clients or to nginx."""
        return self._get.streamed if self._get is not None else 0

    async def start(self) -> None:
        """Listen and accept clients, without nginx. Raises PortTaken."""
        self.bind()
        await self.open(GatewayParts())

    def bind(self) -> socket.socket:
        """See FurtherProtocol."""
        return self._listener.bind()

    async def open(self, parts: GatewayParts) -> None:
        """See FurtherProtocol."""
        methods = self._methods(parts)
        steps = FURTHER_STEPS if parts.front is not None else (GatewayStep.DECIDE,)
        handlers = {step: partial(methods.handle, step=step) for step in steps}
        await self._listener.open(handlers, parts, reads_at_once=self._metadata.reads_at_once)

    def _methods(self, parts: GatewayParts) -> DavMethods:
        view, nodes, limits = self._view, self._nodes, self._limits
        rng = random.Random()  # noqa: S311 - it spreads load, it keeps no secret
        store = FileStore(self._metadata, view, self._wakeups, rng)
        local, front = parts.local, parts.front
        self._writer = writer = FileWriter(self._metadata, view, nodes, store, local=local, limits=limits)
        locator = ReplicaLocator(view, nodes, rng)
        assembler = FileAssembler(self._metadata, view, nodes, store, writer, locator, local=local)
        collections = Collections(self._metadata, store, writer, assembler)
        replicas = NginxReplicas(local, nodes.signer)
        plain = DavPutParser(collections, view, self._authenticator, upload=limits.upload)
        self._get = GetHandler(
            view,
            nodes,
            store,
            replicas,
            reproxy=False,
            limits=limits,
            rng=rng,
            features=parts.features,
            cache=parts.cache,
        )
        streamed = StreamedPutHandler(plain, writer, limits).handle
        puts = {} if front is None else put_handlers(plain, writer, front, limits)
        return DavMethods(
            self._metadata,
            view,
            DavRequestParser(plain, self._authenticator, view, collections, body_time=limits.stalled_body),
            collections,
            DavLocks(self._metadata, collections),
            self._get,
            {GatewayStep.DECIDE: streamed, GatewayStep.BODY: streamed, **puts},
            writer,
            behind_nginx=front is not None,
        )

    async def stop(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        await self._listener.close()
        if self._writer is not None:
            self._writer.close()


def refusal(request: HttpRequest, error: Exception) -> Reply:
    """Return the reply to a failed request; its body is XML where RFC 4918, section 16, defines a condition."""
    reply = responses.refusal(request, error)
    fields = dict(reply.fields)
    if reply.status == 401:
        fields[hdrs.WWW_AUTHENTICATE] = 'Basic realm="tawara", charset="UTF-8"'
    if reply.status == 405:
        fields[hdrs.ALLOW] = METHODS
    if not isinstance(error, Locked | LockNotThere | InfiniteDepth):
        return Reply(reply.status, fields, reply.body)
    domain = unquote(request.raw_path).lstrip("/").partition("/")[0]
    hrefs = [path_of(domain, path) for path in error.paths] if isinstance(error, Locked) else []
    return Reply(reply.status, fields | {hdrs.CONTENT_TYPE: XML_TYPE}, multistatus.error(error.condition, hrefs))
