"""The WebDAV listener: starts and stops its HTTP server, turns errors into replies. All bytes pass through Python."""

from __future__ import annotations

import random
import socket
from typing import Final

from aiohttp import hdrs, web

from tawara.gateway import responses
from tawara.gateway.authenticator import Authenticator
from tawara.gateway.dav.locks import DavLocks
from tawara.gateway.dav.methods import METHODS, XML_TYPE, DavMethods
from tawara.gateway.dav.requests import DavRequestParser
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.http_server import respond, to_response
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.protocol_listener import ProtocolListener
from tawara.gateway.put_handlers import StreamedPutHandler
from tawara.gateway.requests import RequestParser
from tawara.http1.connections import send_response
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
    """Serves WebDAV. Start and stop it once."""

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
        self._listener = ProtocolListener(listen, _PURPOSE, limits)
        self._writer: FileWriter | None = None

    @property
    def meter(self) -> RequestMeter:
        """Counts of the requests."""
        return self._listener.meter

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which the started server listens."""
        return self._listener.address

    async def start(self) -> None:
        """Listen and accept clients. Raises PortTaken."""
        limits = self._limits
        self._listener.bind()
        methods = self._methods()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            reply = await respond(methods.handle, request, refusal=refusal)
            if isinstance(reply, web.StreamResponse):
                return reply
            return await send_response(request, to_response(reply), timeout=limits.stalled_body)

        self._listener.open(answer)

    def _methods(self) -> DavMethods:
        view, nodes, limits = self._view, self._nodes, self._limits
        rng = random.Random()  # noqa: S311 - it spreads load, it keeps no secret
        store = FileStore(self._metadata, view, self._wakeups, rng)
        self._writer = writer = FileWriter(self._metadata, view, nodes, store, local=None, limits=limits)
        locator = ReplicaLocator(view, nodes, rng)
        assembler = FileAssembler(self._metadata, view, nodes, store, writer, locator, local=None)
        collections = Collections(self._metadata, store, writer, assembler)
        replicas = NginxReplicas(None, nodes.signer)
        plain = RequestParser(view, self._authenticator, upload=limits.upload)
        return DavMethods(
            self._metadata,
            view,
            DavRequestParser(plain, self._authenticator, view, body_time=limits.stalled_body),
            collections,
            DavLocks(self._metadata, collections),
            GetHandler(view, nodes, store, replicas, reproxy=False, limits=limits, rng=rng),
            StreamedPutHandler(plain, writer, limits),
            writer,
        )

    async def stop(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        await self._listener.close()
        if self._writer is not None:
            self._writer.close()


def refusal(request: web.BaseRequest, error: Exception) -> Reply:
    """Return the reply to a failed request; its body is XML where RFC 4918, section 16, defines a condition."""
    reply = responses.refusal(request, error)
    fields = dict(reply.fields)
    if reply.status == 401:
        fields[hdrs.WWW_AUTHENTICATE] = 'Basic realm="tawara", charset="UTF-8"'
    if reply.status == 405:
        fields[hdrs.ALLOW] = METHODS
    if not isinstance(error, Locked | LockNotThere | InfiniteDepth):
        return Reply(reply.status, fields, reply.body)
    domain = request.path.lstrip("/").partition("/")[0]
    hrefs = [path_of(domain, path) for path in error.paths] if isinstance(error, Locked) else []
    return Reply(reply.status, fields | {hdrs.CONTENT_TYPE: XML_TYPE}, multistatus.error(error.condition, hrefs))
