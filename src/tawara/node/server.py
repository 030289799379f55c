"""A whole storage node: its devices and its two doors, on the event loop that runs."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from tawara.listening import Door
from tawara.model.errors import ConfigurationError, TawaraError
from tawara.model.limits import Limits
from tawara.node import usage
from tawara.node.devices import Devices
from tawara.node.http import HttpDoor
from tawara.node.lanes import Lanes
from tawara.node.side_channel import SideChannel

log = structlog.get_logger(__name__)

_GRACE: Final = 1.5
"""Seconds that requests get to finish at a stop; aiohttp takes up to twice as many."""
_SWEEP_PERIOD: Final = 3600.0


class StorageNode:
    """Serves the devices `dev1`, `dev2`... below `docroot`, over HTTP and the side channel.

    Start and stop it once. `devices` may be used from other threads all the while.
    """

    def __init__(
        self,
        docroot: Path,
        *,
        http: tuple[str, int],
        side_channel: tuple[str, int] | None,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
        reuse_port: bool = False,
    ) -> None:
        """Listen on the host and port of `http`, and on `side_channel` unless None; port 0 means any free one.

        `reuse_port` lets several processes share the ports (SO_REUSEPORT).
        """
        self.devices = Devices(docroot)
        self._wanted_http, self._wanted_side = http, side_channel
        self._limits, self._reuse_port = limits, reuse_port
        self._lanes = Lanes(self.devices)
        self._http: HttpDoor | None = None
        self._side: SideChannel | None = None
        self._http_listener: Door | None = None
        self._side_listener: Door | None = None
        self._upkeep: asyncio.Task[None] | None = None

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the HTTP door, once started."""
        assert self._http_listener is not None, "not started"
        return self._http_listener.address

    @property
    def side_address(self) -> tuple[str, int]:
        """Host and port of the side channel, once started with one."""
        assert self._side_listener is not None, "not started, or without a side channel"
        return self._side_listener.address

    async def start(self) -> None:
        """Take the ports, sweep leftovers, write the usage files, then let peers in. Raises PortTaken."""
        if not self.devices.docroot.is_dir():
            raise ConfigurationError(f"The storage node's directory {self.devices.docroot} does not exist")
        limits, share = self._limits, self._reuse_port
        try:
            self._http = HttpDoor(self.devices, self._lanes, limits)
            self._http_listener = Door(
                self._wanted_http, "the storage node's HTTP", self._http.connection,
                connections=limits.connections, reuse_port=share,
            )  # fmt: skip
            if self._wanted_side is not None:
                self._side = SideChannel(self.devices, self._lanes, limits)
                self._side_listener = Door(
                    self._wanted_side, "the storage node's side channel", self._side.connection,
                    connections=limits.side_channels, reuse_port=share,
                )  # fmt: skip
            await self._sweep()
            await self._write_usage()
        except BaseException:
            await self.stop()
            raise
        for listener in (self._http_listener, self._side_listener):
            if listener is not None:
                listener.open()
        self._upkeep = asyncio.create_task(self._keep_up())

    async def stop(self) -> None:
        """Give the ports back, let requests finish for a moment, cut what is left; done within 5 seconds."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            with suppress(asyncio.CancelledError):
                await self._upkeep
            self._upkeep = None
        for listener in (self._http_listener, self._side_listener):
            if listener is not None:
                await listener.close()
        if self._side is not None:
            await self._side.close()
        if self._http is not None:
            await self._http.close(_GRACE)
        self._lanes.close()

    async def _keep_up(self) -> None:
        """Usage files every ten seconds, a sweep now and then."""
        swept = time.monotonic()
        while True:
            await asyncio.sleep(usage.PERIOD)
            try:
                await self._write_usage()
                if time.monotonic() - swept > _SWEEP_PERIOD:
                    swept = time.monotonic()
                    await self._sweep()
            except TawaraError as error:
                log.warning("upkeep failed", reason=str(error.__cause__ or error))

    async def _write_usage(self) -> None:
        names = await self._lanes.run(Lanes.ANY, self.devices.names)
        await self._lanes.run(Lanes.ANY, usage.write_all, self.devices, names)

    async def _sweep(self) -> None:
        swept = await self._lanes.run(Lanes.ANY, self.devices.sweep)
        if swept:
            log.info("leftovers of interrupted uploads removed", files=swept)
