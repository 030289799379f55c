"""Watches the gateway's certificate: replaces it when the files change, and records when it expires."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from tawara.background import Background
from tawara.gateway.certificates import TlsFiles, TlsPair
from tawara.metadata import certificates
from tawara.metadata.contract import Metadata
from tawara.model.certificates import RECORDED_EVERY
from tawara.model.errors import TawaraError

log = structlog.get_logger(__name__)

_LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the files."""


class CertificateWatch:
    """Watches one pair of files. Start and stop it once."""

    def __init__(
        self, metadata: Metadata, files: TlsFiles, listener: str, replace: Callable[[TlsPair], Awaitable[None]]
    ) -> None:
        """`listener`: the address under which the expiry is recorded; `replace` makes the server use another pair."""
        self._metadata, self._files, self._listener, self._replace = metadata, files, listener, replace
        self._expires = 0
        self._recorded_at = -RECORDED_EVERY
        self._watching = Background("watch over the certificate")

    def start(self, pair: TlsPair) -> None:
        """Watch for changes of the pair that the server uses."""
        self._expires = pair.expires
        self._watching.start(self._watch())

    async def stop(self) -> None:
        """Stop watching."""
        await self._watching.stop()

    async def _watch(self) -> None:
        while True:
            if time.monotonic() - self._recorded_at >= RECORDED_EVERY:
                await self._record()
            await asyncio.sleep(_LOOK_EVERY)
            await self.look()

    async def look(self) -> None:
        """Use the files if they have changed; files that cannot be used are logged once, and change nothing."""
        try:
            pair = await asyncio.to_thread(self._files.load_if_changed)
            if pair is None:
                return
            await self._replace(pair)
        except (TawaraError, OSError) as error:
            log.warning("certificate_not_reloaded", path=str(self._files.chain), reason=str(error))
            return
        log.info("certificate_reloaded", path=str(self._files.chain))
        self._expires = pair.expires
        await self._record()

    async def _record(self) -> None:
        try:
            now = await self._metadata.clock.seconds()
            await self._metadata.write(certificates.record, self._listener, expires=self._expires, now=now)
        except TawaraError as error:
            log.warning("certificate_expiry_not_recorded", reason=str(error))
            return
        self._recorded_at = time.monotonic()
