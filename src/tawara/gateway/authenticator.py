"""Decides whether a request may do what it asks for: by the one secret key, or by the grants of an access key.

Every protocol of the gateway asks here. A comparison takes as long for an unknown id as for a wrong secret.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from tawara.model.access import grants
from tawara.model.access.grants import Right
from tawara.model.access.keys import AccessKey
from tawara.model.errors import DeniedError, Forbidden
from tawara.store.access_keys import AccessKeys
from tawara.wire.credentials import Credentials, parse_authorization


class Authenticator:
    """Authenticates requests and checks their rights."""

    def __init__(self, access_keys: AccessKeys | None, *, secret: str, public_reads: bool) -> None:
        """`secret`: the one bearer token that may do everything; empty: none. `public_reads`: see `is_public`."""
        self._access_keys, self._secret, self._public_reads = access_keys, secret.encode(), public_reads

    def is_public(self, key: bytes, right: Right) -> bool:
        """Return whether a request needs no authorization: reading a file, where reads are public."""
        return right is Right.READ and self._public_reads and bool(key)

    async def authorise(self, authorization: Sequence[str], domain: str, key: bytes, right: Right) -> str:
        """Return the account of a request that is allowed; empty for the one secret and for public reads.

        `authorization`: the values of its Authorization fields. For LIST, `key` is the requested prefix. The database
        is read only for an id that was not looked up within the last second. Raises DeniedError without valid
        credentials, Forbidden if the access key has no grant for the request, SecretUnreadable, Db.
        """
        if self.is_public(key, right):
            return ""
        found = await self._authenticated(authorization)
        if found is None:
            return ""
        if not grants.allowed(found.grants, right, domain, key):
            raise Forbidden
        return found.account.id

    async def authenticate(self, authorization: Sequence[str]) -> str:
        """Return the account of a request with valid credentials, whatever they allow. Raises as `authorise`."""
        found = await self._authenticated(authorization)
        return "" if found is None else found.account.id

    async def visible_domains(self, authorization: Sequence[str], domains: Sequence[str]) -> list[str]:
        """Return those of the domains in which the request may list some keys. Raises as `authorise`."""
        found = await self._authenticated(authorization)
        return [each for each in domains if found is None or grants.lists_some(found.grants, each)]

    async def _authenticated(self, authorization: Sequence[str]) -> AccessKey | None:
        """Return the access key of a request; None for the one secret. Raises DeniedError, SecretUnreadable, Db."""
        offered = parse_authorization(authorization)
        if offered is None:
            raise DeniedError
        if self._is_secret(offered):
            return None
        if offered.id is None or self._access_keys is None:
            raise DeniedError
        found = self._access_keys.cached(offered.id) or await self._access_keys.look_up(offered.id)
        same = hmac.compare_digest(offered.secret, found.secret.encode())
        if found.key is None or not same:
            raise DeniedError
        self._access_keys.record_use(found.key)
        return found.key

    def _is_secret(self, offered: Credentials) -> bool:
        token = b"" if offered.token is None else offered.token
        return hmac.compare_digest(token, self._secret) and bool(self._secret)
