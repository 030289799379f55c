"""Signs the requests of this process to storage nodes, and the URLs that it gives to clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from tawara.model.errors import ConfigurationError
from tawara.wire.installation_key import InstallationKey
from tawara.wire.signatures import NodeRight, sign, signed_url, signing_key

OWN_SECONDS: Final = 300
"""Seconds for which the signature of a request of our own is valid: nginx may try several replicas meanwhile."""


class RequestSigner:
    """Makes signatures with the first key of the installation."""

    def __init__(
        self, keys: Callable[[], Sequence[InstallationKey]], *, wall: Callable[[], float], client_seconds: int
    ) -> None:
        """`wall`: this machine's time; `client_seconds`: validity of a URL that is given to a client."""
        self._keys, self._wall, self._client_seconds = keys, wall, client_seconds

    def field(self, right: NodeRight, path: str) -> str:
        """Return the header field's value for a request of our own. Raises ConfigurationError without a key."""
        return self._sign(right, path, OWN_SECONDS)

    def url(self, right: NodeRight, url: str) -> str:
        """Return a URL (without query) signed for a client. Raises ConfigurationError without a key."""
        return signed_url(url, self._sign(right, urlsplit(url).path, self._client_seconds))

    def _sign(self, right: NodeRight, path: str, seconds: int) -> str:
        keys = self._keys()
        if not keys:
            raise ConfigurationError("There is no key file to sign requests to storage nodes with")
        return sign(signing_key(keys[0]), right, path, int(self._wall()) + seconds)
