"""Counters and recent requests of a tracker, for the `!` commands."""

from __future__ import annotations

import time
from collections import deque

from tawara.instruments import OTHER, RequestMeter

_RECENT = 50
OK = "ok"
"""Result of a request without an error."""
_LONGEST_LINE = 1000
"""Maximum bytes of a request that are kept."""


class RequestLog:
    """Counters and the last finished requests of one server."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._recent: deque[tuple[str | None, bytes, float, float]] = deque(maxlen=_RECENT)
        self.meter = RequestMeter()
        self.queries = 0
        self.running = 0
        """Number of running requests."""

    @property
    def uptime(self) -> int:
        """Seconds since the start."""
        return int(time.monotonic() - self._started)

    def finished(
        self,
        client_ip: str | None,
        line: bytes,
        arrived: float,
        begun: float,
        ended: float,
        *,
        command: str = OTHER,
        result: str = OK,
    ) -> None:
        """Record an answered request; times are those of `time.perf_counter`. `result`: OK or the code of an error."""
        self.queries += 1
        self.meter.record(command, result, ended - begun)
        if len(line) > _LONGEST_LINE:
            line = line[:_LONGEST_LINE]
        self._recent.append((client_ip, line, ended - arrived, ended - begun))

    def recent(self) -> list[bytes]:
        """Return `IP command args TOTAL WORKERTIME` of the last finished requests, oldest first."""
        return [
            b"%s %s %.4f %.4f" % ((client_ip or "-").encode(), line, total, working)
            for client_ip, line, total, working in self._recent
        ]
