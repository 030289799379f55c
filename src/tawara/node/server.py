"""A complete storage node: its devices, its HTTP server and its side channel, on the running event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from tawara.background import Background
from tawara.disks.devices import Devices
from tawara.disks.disk_health import DiskHealthWatch
from tawara.disks.pools import DevicePools
from tawara.disks.rounds import DeviceRounds
from tawara.instruments import RequestMeter
from tawara.listening import TcpListener
from tawara.model.errors import ConfigurationError, TawaraError
from tawara.model.limits import Limits
from tawara.model.node_errors import DeviceHangs
from tawara.node import usage
from tawara.node.http import NodeHttpServer
from tawara.node.side_channel import SideChannel
from tawara.node.signatures import SignatureCheck

log = structlog.get_logger(__name__)

_GRACE: Final = 1.5
"""Seconds for requests to finish at a stop; aiohttp takes up to twice as many."""
_TIMEOUT: Final = 2.0
"""Seconds that a start waits for a disk that does not answer; the other disks are served then."""
_SWEEP_PERIOD: Final = 3600.0


@dataclass(frozen=True, slots=True)
class DeviceObservation:
    """A device as the node found it last. Sizes are in bytes."""

    size: int = 0
    free: int = 0
    """Bytes available for files."""
    usable: bool = False
    """Whether its usage file could be written."""
    errors: int = 0
    """Failures to write its usage file since the start."""
    hangs: bool = False
    """Whether the disk does not answer."""


class StorageNode:
    """Serves the devices `dev1`, `dev2`... below `docroot`, over HTTP and the side channel.

    Start and stop it once. `devices` may be used from other threads all the while.
    """

    def __init__(
        self,
        docroot: Path,
        *,
        http: tuple[str, int] | socket.socket | None,
        side_channel: tuple[str, int] | socket.socket | None,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        reuse_port: bool = False,
        fast_path: bool = True,
        immutable: bool = True,
        signatures: SignatureCheck | None = None,
        disk_health: bool = True,
    ) -> None:
        """Listen on the host and port of `http`, and on those of `side_channel`; port 0 means any free one.

        Either may be a listening socket, or None: without `http` another server serves the files, and this one adds
        the side channel.

        `reuse_port` lets several processes share the ports (SO_REUSEPORT). Without `fast_path` plain requests go to
        the complete HTTP server, too, for tests. Without `immutable` a PUT replaces a fid's content without being
        told to. `signatures` checks the requests that must be signed. Without `disk_health` no smartctl is run.
        """
        self.devices = Devices(docroot, immutable=immutable)
        self._wanted_http, self._wanted_side, self._signatures = http, side_channel, signatures
        self._limits, self._reuse_port, self._fast_path = limits, reuse_port, fast_path
        self._pools = DevicePools(self.devices)
        self._http: NodeHttpServer | None = None
        self._side: SideChannel | None = None
        self._http_listener: TcpListener | None = None
        self._side_listener: TcpListener | None = None
        self._health = DiskHealthWatch(self.devices, self._pools) if disk_health else None
        self._maintenance = Background("upkeep of devices")
        self._rounds = DeviceRounds(self.devices, self._pools, self._maintain, timeout=_TIMEOUT)
        self._sweep = True
        self._observed: dict[str, DeviceObservation] = {}

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the HTTP server, once started."""
        assert self._http_listener is not None, "not started, or without HTTP"
        return self._http_listener.address

    @property
    def meter(self) -> RequestMeter | None:
        """Counts of the HTTP requests; None before the start, and without HTTP."""
        return self._http.meter if self._http is not None else None

    @property
    def observed(self) -> dict[str, DeviceObservation]:
        """The devices as they were found when their usage files were written last, by name."""
        return {name: replace(each, hangs=self._pools.hangs(name)) for name, each in self._observed.items()}

    @property
    def side_address(self) -> tuple[str, int]:
        """Host and port of the side channel, once started with one."""
        assert self._side_listener is not None, "not started, or without a side channel"
        return self._side_listener.address

    async def start(self) -> None:
        """Take the ports, remove leftovers, write the usage files, then accept connections.

        Raises PortTaken, ConfigurationError.
        """
        if not await asyncio.to_thread(self.devices.docroot.is_dir):
            raise ConfigurationError(f"The storage node's directory {self.devices.docroot} does not exist")
        limits, share = self._limits, self._reuse_port
        try:
            if self._wanted_http is not None:
                self._http = NodeHttpServer(
                    self.devices, self._pools, limits, signatures=self._signatures, fast_path=self._fast_path
                )
                self._http_listener = TcpListener(
                    self._wanted_http, "the storage node's HTTP", self._http.connection,
                    connections=limits.connections, reuse_port=share, share=limits.open_files_share,
                )  # fmt: skip
            if self._wanted_side is not None:
                self._side = SideChannel(self.devices, self._pools, limits)
                self._side_listener = TcpListener(
                    self._wanted_side, "the storage node's side channel", self._side.connection,
                    connections=limits.side_channels, reuse_port=share, share=limits.open_files_share,
                )  # fmt: skip
            await self.check_devices()
        except BaseException:
            await self.stop()
            raise
        for listener in (self._http_listener, self._side_listener):
            if listener is not None:
                listener.open()
        self._maintenance.start(self._maintain_devices())
        if self._health is not None:
            self._health.start()

    def drain(self) -> None:
        """Close each HTTP connection after its next reply, so that clients connect to another node or a successor."""
        if self._http is not None:
            self._http.drain()

    async def stop(self) -> None:
        """Release the ports, let requests finish for a moment, abort the rest; takes at most 5 seconds."""
        for listener in (self._http_listener, self._side_listener):
            if listener is not None:
                await listener.close()
        await self._maintenance.stop()
        ends = [self._rounds.stop()]  # all at once, for a disk that hangs keeps each of them
        if self._health is not None:
            ends.append(self._health.stop())
        if self._side is not None:
            ends.append(self._side.close())
        if self._http is not None:
            ends.append(self._http.close(_GRACE))
        await asyncio.gather(*ends)
        self._pools.close()

    async def check_devices(self) -> None:
        """Look for devices now, and write the usage file of each; done regularly, too."""
        await self._rounds.round()

    async def _maintain_devices(self) -> None:
        """Usage files every ten seconds, a sweep now and then."""
        swept = time.monotonic()
        while True:
            await asyncio.sleep(usage.PERIOD)
            self._sweep = time.monotonic() - swept > _SWEEP_PERIOD
            if self._sweep:
                swept = time.monotonic()
            try:
                await self.check_devices()
            except TawaraError as error:
                log.warning("device_maintenance_failed", reason=str(error.__cause__ or error))

    async def _maintain(self, device: str) -> None:
        try:
            await self._pools.run(device, self._maintain_now, device, self._sweep)
        except DeviceHangs as error:
            log.warning("device_maintenance_failed", devid=int(device[3:]), reason=str(error))

    def _maintain_now(self, device: str, sweep: bool) -> None:
        """Write the usage file of one device; a device that fails keeps its old one, for monitors to see."""
        before = self._observed.get(device, DeviceObservation())
        try:
            found = usage.write(self.devices, device, int(time.time()))
            size, free = found.total * 1024, found.available * 1024
            self._observed[device] = DeviceObservation(size, free, True, before.errors)
            swept = self.devices.sweep(device) if sweep else 0
        except (TawaraError, OSError) as error:
            self._observed[device] = replace(before, usable=False, errors=before.errors + 1)
            log.warning("device_maintenance_failed", devid=int(device[3:]), reason=str(error.__cause__ or error))
        else:
            if swept:
                log.info("incoming_files_removed", devid=int(device[3:]), files=swept)
