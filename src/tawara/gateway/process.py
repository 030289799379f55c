"""The part of one process of a gateway that has several behind one nginx."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """One of several processes of a gateway behind one nginx."""

    number: int
    """From 1 on; 0: the process that runs nginx, and answers no request itself."""
    count: int
    """Processes that answer requests."""
