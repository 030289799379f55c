"""The S3 listener: starts and stops its HTTP server. All bytes pass through Python."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from typing import Final

from tawara.gateway.protocol_listener import ProtocolListener
from tawara.gateway.s3.authenticator import S3Authenticator
from tawara.gateway.s3.context import S3Context
from tawara.gateway.s3.dispatcher import S3Dispatcher
from tawara.instruments import RequestMeter
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.file_assembler import FileAssembler
from tawara.store.multipart_uploads import MultipartUploads
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter

_PURPOSE: Final = "the S3 listener"


class S3Server:
    """Serves the S3 protocol. Start and stop it once."""

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
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        """Listen on a host and port (0: any free one). `hosts`: names of this server without port, see S3Dispatcher."""
        self._metadata, self._view, self._nodes, self._wakeups = metadata, view, nodes, wakeups
        self._access_keys, self._region = access_keys, region
        self._hosts, self._limits = tuple(each.lower() for each in hosts), limits
        self._listener = ProtocolListener(listen, _PURPOSE, limits)
        self._writer: FileWriter | None = None
        self._dispatcher: S3Dispatcher | None = None

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
        rng = random.Random()  # noqa: S311 - it spreads load, it keeps no secret
        store = FileStore(self._metadata, self._view, self._wakeups, rng)
        self._writer = FileWriter(self._metadata, self._view, self._nodes, store, local=None, limits=limits)
        locator = ReplicaLocator(self._view, self._nodes, rng)
        context = S3Context(
            metadata=self._metadata,
            view=self._view,
            nodes=self._nodes,
            store=store,
            writer=self._writer,
            locator=locator,
            assembler=FileAssembler(self._metadata, self._view, self._nodes, store, self._writer, locator, local=None),
            multipart=MultipartUploads(self._metadata, store, self._wakeups),
            limits=limits,
            region=self._region,
        )
        names = [*self._hosts, *(f"{each}:{self.address[1]}" for each in self._hosts)]
        self._dispatcher = S3Dispatcher(context, S3Authenticator(self._access_keys, names), self._hosts)
        self._listener.open(self._dispatcher.answer)

    async def stop(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest."""
        await self._listener.close()
        if self._dispatcher is not None:
            await self._dispatcher.close()
        if self._writer is not None:
            self._writer.close()
