"""Looks up access keys and their secrets for servers; the cache is at most a second behind the database."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from tawara import background
from tawara.metadata import access_keys as rows
from tawara.metadata import clock
from tawara.metadata.contract import Metadata
from tawara.model.access.keys import SECRET_ALPHABET, SECRET_LENGTH, AccessKey, KeyState, is_id
from tawara.model.errors import Db, SecretUnreadable
from tawara.store.key_file import KeyFile, KeyFileMissing
from tawara.wire.installation_key import NONCE, CannotOpen, open_sealed, seal, sealed_with

log = structlog.get_logger(__name__)

FRESH: Final = 0.8
"""Seconds for which a row is used after it was read: a revoked key is refused everywhere within one second."""
_CACHED: Final = 10_000
"""Most ids in the cache, unknown ones included; the oldest are dropped."""
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class CheckedKey:
    """Result of looking up an id."""

    key: AccessKey | None
    """None if no key has the id, or it is revoked or expired."""
    secret: str = field(repr=False)
    """The secret to compare with; a random one without a key."""
    until: float
    """Time until which this may be used, by the monotonic clock."""


class AccessKeys:
    """The access keys of a store, as one server process knows them. Owned by an event loop."""

    def __init__(self, metadata: Metadata, key_file: KeyFile, *, steady: Callable[[], float] = clock.steady) -> None:
        self._metadata, self._key_file, self._steady = metadata, key_file, steady
        self._cache: OrderedDict[str, CheckedKey] = OrderedDict()
        self._decoy: str | None = None
        self._used: dict[str, int] = {}
        self._to_record: dict[str, int] = {}
        self._recorder: asyncio.Task[None] | None = None

    async def check(self) -> None:
        """Check the key file at a start; log an error if it cannot open the secrets in use.

        Raises ConfigurationError if the file exists and is not private or malformed, Db.
        """
        found = await self._metadata.read(rows.list_all)
        in_use = [each for each in found if each.revoked_at is None]
        try:
            known = {each.id for each in self._key_file.load()}
        except KeyFileMissing as error:
            if in_use:
                log.error("key_file_missing", path=str(self._key_file.path), count=len(in_use), hint=error.hint)  # noqa: TRY400
            return
        others = [each.name for each in in_use if sealed_with(each.sealed) not in known]
        if others:
            log.error(
                "key_file_is_another",
                path=str(self._key_file.path),
                access_keys=others[:10],
                hint=SecretUnreadable.hint,
            )

    def cached(self, key_id: str) -> CheckedKey | None:
        """Return what is known about an id without reading the database; None if `look_up` is needed."""
        found = self._cache.get(key_id)
        return found if found is not None and self._steady() < found.until else None

    async def look_up(self, key_id: str) -> CheckedKey:
        """Return what is known about an id. It costs the same whether a key has the id or not.

        Raises SecretUnreadable if this process cannot open the secret, Db.
        """
        found = self.cached(key_id)
        if found is not None:
            return found
        if not is_id(key_id):
            return CheckedKey(None, _random_secret(), 0.0)
        began = self._steady()
        key = await self._metadata.read(rows.find, key_id)
        now = await self._metadata.clock.now()
        until = began + FRESH
        if key is not None and key.state(now) is not KeyState.ACTIVE:
            key = None
        if key is not None and key.expires_at is not None:
            until = min(until, began + key.expires_at - now)
        found = CheckedKey(key, self._open(key), until)
        self._cache[key_id] = found
        self._cache.move_to_end(key_id)
        if len(self._cache) > _CACHED:
            self._cache.popitem(last=False)
        return found

    async def secret(self, key_id: str) -> str | None:
        """Return the secret of an active key; None if no key has the id. Raises SecretUnreadable, Db."""
        found = await self.look_up(key_id)
        return None if found.key is None else found.secret

    def _open(self, key: AccessKey | None) -> str:
        """Return the secret of a key; without a key, decrypt a random one, which costs the same."""
        keys = self._key_file.keys()
        if key is not None:
            try:
                return open_sealed(keys, key.sealed, owner=key.id)
            except CannotOpen as error:
                reason = str(error)
                log.error("access_key_unreadable", access_key=key.name, path=str(self._key_file.path), reason=reason)  # noqa: TRY400
                raise SecretUnreadable from None
        if not keys:
            return _random_secret()
        if self._decoy is None or not self._decoy.startswith(f"{keys[0].id}:"):
            self._decoy = seal(keys[0], _random_secret(), owner="", nonce=secrets.token_bytes(NONCE))
        return open_sealed(keys, self._decoy, owner="")

    # --- days of use --------------------------------------------------------------------------------------------------

    def record_use(self, key: AccessKey) -> None:
        """Record in the database, soon, that a key was used today, unless that is recorded."""
        day = int(self._metadata.clock.guess()) // _DAY
        if self._used.get(key.id, key.used_on) == day:
            return
        if len(self._used) >= _CACHED:
            self._used.clear()
        self._used[key.id] = self._to_record[key.id] = day
        if self._recorder is None or self._recorder.done():
            self._recorder = asyncio.create_task(self._record(), name="recording of used access keys")

    async def _record(self) -> None:
        while self._to_record:
            key_id, day = self._to_record.popitem()
            try:
                await self._metadata.write(rows.record_use, key_id, day)
            except Db as error:
                self._used.pop(key_id, None)
                log.warning("access_key_use_not_recorded", reason=str(error))

    async def close(self) -> None:
        """Stop recording."""
        if self._recorder is not None:
            await background.end([self._recorder])


def _random_secret() -> str:
    return "".join(secrets.choice(SECRET_ALPHABET) for _ in range(SECRET_LENGTH))
