"""The gateway component: starts and stops its HTTP server, and nginx in front of it if configured."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tawara.disks.devices import Devices
from tawara.gateway.application_files import ApplicationFileHandler
from tawara.gateway.authenticator import Authenticator
from tawara.gateway.balancer_listener import BalancerFileHandler, BalancerListener
from tawara.gateway.certificate_watch import CertificateWatch
from tawara.gateway.certificates import TlsFiles, TlsPair, TlsServerContext
from tawara.gateway.fid_cache import FidCache
from tawara.gateway.get_handler import GetHandler
from tawara.gateway.http_server import GatewayHttpServer, handlers
from tawara.gateway.nginx import NginxFront, listen_unix
from tawara.gateway.nginx_parameters import NginxFeatures
from tawara.gateway.nginx_replicas import NginxReplicas
from tawara.gateway.nginx_routes import ListenerProtocol
from tawara.gateway.peers import PeerMonitor
from tawara.gateway.process import GatewayProcess
from tawara.gateway.protocol_listener import FurtherProtocol, GatewayParts
from tawara.gateway.put_handlers import StreamedPutHandler
from tawara.gateway.reproxy_applications import ReproxyHandler
from tawara.gateway.requests import RequestParser
from tawara.gateway.serve_handler import ServeHandler
from tawara.instruments import RequestMeter
from tawara.listening import TcpListener, take
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.addresses import listening
from tawara.model.applications import Application
from tawara.model.cache_settings import CacheSettings
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.local_devices import LocalDevices
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter

_GRACE: Final = 1.0
"""Seconds that requests get to finish at a stop; aiohttp may take twice as long."""
_PURPOSE: Final = "the gateway"


class Gateway:
    """Serves `GET`, `HEAD`, `PUT`, `DELETE` of `/DOMAIN/KEY`. Start and stop it once."""

    def __init__(
        self,
        metadata: Metadata,
        view: ClusterView,
        nodes: NodeClient,
        wakeups: Wakeups,
        *,
        listen: tuple[str, int] | Path | socket.socket,
        secret: str,
        access_keys: AccessKeys | None = None,
        local_devices: Devices | None = None,
        local_reads_only: bool = False,
        nginx: NginxFront | None = None,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        public_reads: bool = True,
        reproxy: bool = False,
        fast_path: bool = True,
        tls: TlsFiles | None = None,
        process: GatewayProcess | None = None,
        applications: Sequence[Application] = (),
        cache: CacheSettings | None = None,
        balancers: tuple[str, int] | None = None,
        protocols: Sequence[FurtherProtocol] = (),
    ) -> None:
        """Listen on a host and port (0: any free one), at the path of a Unix socket, or on a listening socket.

        `secret` is the bearer token of PUT and DELETE, and of GET without `public_reads`; requests with one of
        `access_keys` have that key's rights. Files on `local_devices` are
        sent by nginx and stored directly, without a storage node; with `local_reads_only` they are only sent, and only
        from devices in the database. With `nginx` None, bytes are streamed through Python. `reproxy` returns URLs of
        replicas to front ends that can fetch them; allow it only if every client is such a front end. Without
        `fast_path` plain requests from nginx go to the complete HTTP server, too, for tests. With `tls` clients speak
        TLS; changed files take effect within seconds. `process`: the part of this process, if nginx is in front of
        several. `applications` are behind nginx, which sends the files that they name. `cache`: of nginx, for files of
        other machines. `protocols` are served as well, behind the same nginx and with the same certificate.
        `balancers`: where other nginx servers ask for places of files; None: nowhere.
        """
        self._metadata, self._view, self._nodes, self._wakeups = metadata, view, nodes, wakeups
        self._listen, self._secret, self._devices = listen, secret, local_devices
        self._access_keys = access_keys
        self._local_reads_only = local_reads_only
        self._local: LocalDevices | None = None
        self._nginx, self._limits = nginx, limits
        self._public_reads, self._reproxy, self._fast_path = public_reads, reproxy, fast_path
        self._get: GetHandler | None = None
        self._tls, self._process, self._protocols = tls, process, tuple(protocols)
        self._applications, self._cache = applications, cache if nginx is not None else None
        self._inherited: dict[ListenerProtocol, socket.socket] = {}
        self._peers: PeerMonitor | None = None
        self._fid_cache: FidCache | None = None
        self._reproxying: ReproxyHandler | None = None
        self._balancers = BalancerListener(balancers, limits) if balancers is not None else None
        self._certificate: CertificateWatch | None = None
        self._http: GatewayHttpServer | None = None
        self._writer: FileWriter | None = None
        self._listeners: list[TcpListener] = []
        self._public: socket.socket | None = None
        self._address: tuple[str, int] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port on which the started gateway listens."""
        assert self._address is not None, "not started, or on a Unix socket"
        return self._address

    @property
    def meter(self) -> RequestMeter | None:
        """Counts of the requests; None in a process that only runs nginx."""
        return self._http.meter if self._http is not None else None

    @property
    def balancers_address(self) -> tuple[str, int]:
        """Host and port at which the started gateway answers other nginx servers."""
        assert self._balancers is not None, "it does not"
        return self._balancers.address

    @property
    def streamed(self) -> int:
        """Bytes of files that Python has sent to clients or to nginx."""
        return self._get.streamed if self._get is not None else 0

    async def look_for_peers(self) -> None:
        """Look now which other gateways answer; they are watched anyway."""
        if self._peers is not None:
            await self._peers.look()

    async def start(self) -> None:
        """Listen and accept clients; with nginx, once nginx answers. Raises PortTaken, ConfigurationError."""
        process = self._process
        try:
            pair = None if self._tls is None else await asyncio.to_thread(self._tls.load)
            if self._nginx is not None and process is not None and process.number:
                await asyncio.to_thread(self._nginx.detect_features)
            else:
                if self._nginx is not None:
                    await asyncio.to_thread(self._nginx.take_directory)
                self._public = await self._listen_publicly()
                if not isinstance(self._listen, Path):
                    self._address = self._public.getsockname()[:2]
                self._inherited = {ListenerProtocol.HTTP: self._public}
                self._inherited |= {each.protocol: each.bind() for each in self._protocols}
            context = None if pair is None or self._nginx is not None else TlsServerContext(pair)
            if process is None or process.number:
                await self._open_protocols(context)
                await self._open_http(context)
            if self._nginx is not None and self._public is not None:
                docroot = self._devices.docroot if self._devices is not None else None
                processes = process.count if process is not None else 0
                await self._nginx.start(
                    self._inherited,
                    docroot,
                    self._limits,
                    tls=pair,
                    processes=processes,
                    applications=self._applications,
                    cache=self._cache,
                )
            if self._tls is not None and pair is not None and self._public is not None:
                self._watch_certificate(self._tls, pair, context)
        except BaseException:
            await self.stop()
            raise

    async def _listen_publicly(self) -> socket.socket:
        """Listen for clients."""
        if isinstance(self._listen, socket.socket):
            return self._listen
        if isinstance(self._listen, Path):
            return await asyncio.to_thread(listen_unix, self._listen)
        return take(self._listen, _PURPOSE)

    async def _open_protocols(self, context: TlsServerContext | None) -> None:
        """Answer the requests of the further protocols."""
        if self._devices is not None and self._nginx is not None:
            timeout = self._limits.node_connect
            self._local = LocalDevices(self._devices, timeout=timeout, only_known=self._local_reads_only)
        self._fid_cache = self._make_cache()
        parts = GatewayParts(
            front=self._nginx,
            process=self._process.number if self._process is not None else 0,
            local=self._local,
            tls=context.context if context is not None else None,
            cache=self._fid_cache,
            fast_path=self._fast_path,
        )
        for each in self._protocols:
            await each.open(parts)

    async def _open_http(self, context: TlsServerContext | None) -> None:
        """Answer the requests of nginx, or of clients without nginx."""
        limits = self._limits
        self._http = self._http_server()
        if self._nginx is None:
            assert self._public is not None
            inner = self._public
        else:
            inner = await asyncio.to_thread(self._nginx.open_socket, self._process.number if self._process else 0)
        listener = TcpListener(
            inner,
            _PURPOSE,
            self._http.connection,
            connections=limits.connections,
            share=limits.open_files_share,
            tls=context.context if context is not None else None,
        )
        self._listeners.append(listener)
        listener.open()
        if self._peers is not None:
            await self._peers.start()
        if self._balancers is not None and (self._process is None or self._process.number == 1):
            self._balancers.start(self._balancer_files(), reads_at_once=self._metadata.reads_at_once)

    def _http_server(self) -> GatewayHttpServer:
        limits, rng = self._limits, random.Random()  # noqa: S311 - it spreads load, it keeps no secret
        store = FileStore(self._metadata, self._view, self._wakeups, rng)
        self._writer = FileWriter(self._metadata, self._view, self._nodes, store, local=self._local, limits=limits)
        authenticator = Authenticator(self._access_keys, secret=self._secret, public_reads=self._public_reads)
        parser = RequestParser(self._view, authenticator, upload=limits.upload)
        self._get = GetHandler(
            self._view,
            self._nodes,
            store,
            NginxReplicas(self._local, self._nodes.signer),
            reproxy=self._reproxy,
            limits=limits,
            rng=rng,
            features=self._nginx.features if self._nginx is not None else NginxFeatures(),
            cache=self._fid_cache,
        )
        put = StreamedPutHandler(parser, self._writer, limits)
        number = self._process.number if self._process is not None else 0
        serve = ServeHandler(self._metadata, store, parser, self._get, put, process=number)
        files = ApplicationFileHandler(self._applications, parser, self._get) if self._applications else None
        if any(each.reproxy for each in self._applications):
            self._reproxying = ReproxyHandler(self._applications, self._metadata, self._view, limits)
        steps = handlers(serve, parser, self._writer, self._nginx, limits, files, self._reproxying)
        return GatewayHttpServer(steps, limits, reads_at_once=self._metadata.reads_at_once, fast_path=self._fast_path)

    def _balancer_files(self) -> BalancerFileHandler:
        """Return the handler for other nginx servers, which read all files from storage nodes."""
        rng = random.Random()  # noqa: S311 - it spreads load, it keeps no secret
        store = FileStore(self._metadata, self._view, self._wakeups, rng)
        replicas = NginxReplicas(None, self._nodes.signer)
        get = GetHandler(self._view, self._nodes, store, replicas, reproxy=False, limits=self._limits, rng=rng)
        authenticator = Authenticator(self._access_keys, secret=self._secret, public_reads=False)
        return BalancerFileHandler(RequestParser(self._view, authenticator, upload=0), get)

    def _make_cache(self) -> FidCache | None:
        if self._cache is None:
            return None
        peers = {each: listening(each) for each in self._cache.peers if each != self._cache.listen}
        monitor = self._peers = PeerMonitor(list(peers.values()))
        return FidCache(self._cache, reachable=lambda peer: monitor.is_up(peers[peer]))

    def _watch_certificate(self, files: TlsFiles, pair: TlsPair, context: TlsServerContext | None) -> None:
        async def replace(new: TlsPair) -> None:
            if context is not None:
                context.replace(new)
            elif self._nginx is not None:
                await self._nginx.replace_tls(new)

        shown = str(self._listen) if isinstance(self._listen, Path) else "{}:{}".format(*self.address)
        self._certificate = CertificateWatch(self._metadata, files, shown, replace)
        self._certificate.start(pair)

    async def stop(self) -> None:
        """Stop listening, wait briefly for requests to finish, abort the rest; takes at most 5 seconds."""
        if self._public is not None:
            self._public.close()
            if isinstance(self._listen, Path):
                with suppress(FileNotFoundError):
                    await asyncio.to_thread(self._listen.unlink)
        if self._certificate is not None:
            await self._certificate.stop()
        if self._peers is not None:
            await self._peers.stop()
        if self._reproxying is not None:
            await self._reproxying.close()
        if self._nginx is not None:
            await self._nginx.stop()
        for listener in self._listeners:
            await listener.close()
        await asyncio.gather(*(each.stop() for each in self._protocols))
        if self._balancers is not None:
            await self._balancers.stop()
        if self._http is not None:
            await self._http.close(_GRACE if self._nginx is None else _GRACE / 4)
        for listener in self._listeners:
            await listener.abort_connections()
        if self._writer is not None:
            self._writer.close()
        if self._local is not None:
            await self._local.close()
        if self._access_keys is not None:
            await self._access_keys.close()
