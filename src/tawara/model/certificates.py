"""The certificates of gateways as they are reported: when each expires, and which need attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RECORDED_EVERY: Final = 12 * 3600.0
"""Seconds after which a gateway records its certificate again."""
FORGOTTEN_AFTER: Final = 3 * 86400
"""Seconds after which the record of a gateway that no longer runs is ignored."""
EXPIRES_SOON: Final = 30 * 86400
"""Seconds before its expiry from which a certificate is reported."""


@dataclass(frozen=True, slots=True)
class ListenerCertificate:
    """The certificate of one listener."""

    listener: str
    """Address and port, as configured on its machine."""
    expires: int
    """Unix seconds."""

    def left(self, now: int) -> int:
        """Return the seconds until it expires, negative afterwards."""
        return self.expires - now
