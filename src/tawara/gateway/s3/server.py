"""The S3 listener: starts and stops its HTTP server.

Behind nginx the bytes of objects are sent by nginx, and bodies that are not framed are received by it.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from typing import Final

from tawara.gateway import responses
from tawara.gateway.http_server import ErrorForm
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.protocol_listener import GatewayParts, ProtocolListener
from tawara.gateway.s3.authenticator import S3Authenticator
from tawara.gateway.s3.context import S3Context
from tawara.gateway.s3.dispatcher import S3Dispatcher, refusal
from tawara.instruments import RequestMeter
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.limits import Limits
from tawara.model.trusted_peers import Network
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.file_assembler import FileAssembler
from tawara.store.multipart_uploads import MultipartUploads
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter

_PURPOSE: Final = "the S3 listener"


class S3Server:
    """Serves the S3 protocol. Start and stop it once, or give it to a gateway that does it."""

    protocol = ListenerProtocol.S3

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        wakeups: Wakeups,
        *,
        listen: tuple[str, int] | socket.socket,
        access_keys: AccessKeys,
        region: str,
        hosts: Sequence[str] = (),
        trusted: Sequence[Network] = (),
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        """Listen on a host and port (0: any free one). `hosts`: names of this server without port, see S3Dispatcher.

        `trusted`: front ends whose X-Forwarded-Host counts.
        """
        self._trusted = tuple(trusted)
        self._metadata, self._view, self._nodes, self._wakeups = metadata, view, nodes, wakeups
        self._access_keys, self._region = access_keys, region
        self._hosts, self._limits = tuple(each.lower() for each in hosts), limits
        self._port = listen.getsockname()[1] if isinstance(listen, socket.socket) else listen[1]
        self._listener = ProtocolListener(
            ListenerProtocol.S3, listen, _PURPOSE, limits, ErrorForm(refusal, responses.bare_verdict)
        )
        self._dispatcher: S3Dispatcher | None = None
        self._writer: FileWriter | None = None

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
        """Bytes of objects that Python has sent to clients or to nginx."""
        return self._dispatcher.streamed if self._dispatcher is not None else 0

    async def start(self) -> None:
        """Listen and accept clients, without nginx. Raises PortTaken."""
        self.bind()
        await self.open(GatewayParts())

    def bind(self) -> socket.socket:
        """See FurtherProtocol."""
        public = self._listener.bind()
        self._port = self._listener.address[1]
        return public

    async def open(self, parts: GatewayParts) -> None:
        """See FurtherProtocol."""
        limits, local = self._limits, parts.local
        rng = random.Random()  # noqa: S311 - it spreads load, it keeps no secret
        store = FileStore(self._metadata, self._view, self._wakeups, rng)
        self._writer = FileWriter(self._metadata, self._view, self._nodes, store, local=local, limits=limits)
        locator = ReplicaLocator(self._view, self._nodes, rng)
        context = S3Context(
            metadata=self._metadata,
            view=self._view,
            nodes=self._nodes,
            store=store,
            writer=self._writer,
            locator=locator,
            assembler=FileAssembler(self._metadata, self._view, self._nodes, store, self._writer, locator, local=local),
            multipart=MultipartUploads(self._metadata, store, self._wakeups),
            limits=limits,
            region=self._region,
            gateway=parts,
            replicas=NginxReplicas(local, self._nodes.signer),
        )
        names = [*self._hosts, *(f"{each}:{self._port}" for each in self._hosts)]
        authenticator = S3Authenticator(self._access_keys, names)
        self._dispatcher = S3Dispatcher(context, authenticator, self._hosts, self._trusted)
        handlers = self._dispatcher.steps()
        await self._listener.open(handlers, parts, reads_at_once=self._metadata.reads_at_once)

    async def stop(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        await self._listener.close()
        if self._dispatcher is not None:
            await self._dispatcher.close()
        if self._writer is not None:
            self._writer.close()
