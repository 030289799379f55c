"""Finds the access key that signed a request or the policy of a form, and verifies the signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tawara.model.access.keys import AccessKey
from tawara.store.access_keys import AccessKeys
from tawara.wire.s3.faults import FaultCode, S3Fault
from tawara.wire.s3.head import RequestHead
from tawara.wire.s3.payload import UNSIGNED, framing_of
from tawara.wire.s3.post_policy import PostAuthentication, verify_post
from tawara.wire.s3.presigned_v2 import PresignedV2, check_expiry, presigned_v2_of, verify_v2
from tawara.wire.s3.signature import Authentication, Scope, authentication_of, check_time, signing_key, verify

_cached_signing_key = lru_cache(1024)(signing_key)
"""The key of a secret and a scope, which stays the same for a day."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a request, verified."""

    key: AccessKey
    authentication: Authentication
    signing_key: bytes


class S3Authenticator:
    """Authenticates requests by Signature Version 4."""

    def __init__(self, access_keys: AccessKeys, hosts: Sequence[str]) -> None:
        """`hosts`: values of Host that clients may have signed instead of the one that arrived."""
        self._access_keys, self._hosts = access_keys, tuple(hosts)

    async def authenticate(self, head: RequestHead, now: int) -> Signer:
        """Return who signed a request; `now`: unix seconds of this machine's clock.

        An unknown id costs as much as a known one. Raises S3Fault, SecretUnreadable, Db.
        """
        presigned = presigned_v2_of(head)
        if presigned is not None:
            return await self._authenticate_v2(head, presigned, now)
        found = authentication_of(head)
        if found is None:
            raise S3Fault(FaultCode.ACCESS_DENIED)
        name = found.access_key_id
        checked = self._access_keys.cached(name) or await self._access_keys.look_up(name)
        key = _cached_signing_key(checked.secret, found.scope)
        try:
            check_time(found, now)
            verify(head, found, key, self._hosts)
        except S3Fault:
            if checked.key is not None:
                raise
        if checked.key is None:
            raise S3Fault(FaultCode.INVALID_ACCESS_KEY_ID, details=[("AWSAccessKeyId", name)])
        self._access_keys.record_use(checked.key)
        return Signer(checked.key, found, key)

    async def _authenticate_v2(self, head: RequestHead, presigned: PresignedV2, now: int) -> Signer:
        name = presigned.access_key_id
        checked = self._access_keys.cached(name) or await self._access_keys.look_up(name)
        try:
            check_expiry(presigned, now)
            verify_v2(head, presigned, checked.secret)
        except S3Fault:
            if checked.key is not None:
                raise
        if checked.key is None:
            raise S3Fault(FaultCode.INVALID_ACCESS_KEY_ID, details=[("AWSAccessKeyId", name)])
        if framing_of(head.fields).is_signed:  # there is no signing key of version 4
            raise S3Fault(FaultCode.INVALID_REQUEST, "Signed chunks need a signature of version 4")
        self._access_keys.record_use(checked.key)
        unsigned = Authentication(name, Scope("", ""), ("host",), presigned.signature, "", UNSIGNED)
        return Signer(checked.key, unsigned, b"")

    async def authenticate_form(self, found: PostAuthentication) -> AccessKey:
        """Return the key that signed the policy of a form. Raises S3Fault, SecretUnreadable, Db."""
        name = found.access_key_id
        checked = self._access_keys.cached(name) or await self._access_keys.look_up(name)
        secret = checked.secret
        try:
            verify_post(found, secret.encode() if found.scope is None else _cached_signing_key(secret, found.scope))
        except S3Fault:
            if checked.key is not None:
                raise
        if checked.key is None:
            raise S3Fault(FaultCode.INVALID_ACCESS_KEY_ID, details=[("AWSAccessKeyId", name)])
        self._access_keys.record_use(checked.key)
        return checked.key
