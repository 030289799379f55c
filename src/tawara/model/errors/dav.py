"""Errors of WebDAV: locks and collections (RFC 4918). `condition` names the violated precondition (section 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tawara.model.errors.families import ConflictError, DeniedError, TawaraError


class Locked(ConflictError):
    """A lock prevents a new lock."""

    code = "locked"
    message = "Locked"
    hint = None
    http = 423
    condition: ClassVar[str] = "no-conflicting-lock"

    def __init__(self, message: str | None = None, *, hint: str | None = None, paths: Sequence[bytes] = ()) -> None:
        super().__init__(message, hint=hint)
        self.paths = tuple(paths)
        """The locked resources."""


class LockTokenMissing(Locked):
    """A write does not submit the token of a lock on what it writes."""

    code = "lock_token_missing"
    message = "Locked; the request must submit the lock's token"
    hint = None
    condition = "lock-token-submitted"


class LockNotThere(ConflictError):
    """No lock on the resource has the token."""

    code = "lock_not_there"
    message = "The resource has no lock with this token"
    hint = None
    condition: ClassVar[str] = "lock-token-matches-request-uri"


class NoParentCollection(ConflictError):
    """The collection that is to have the new member does not exist."""

    code = "no_parent_collection"
    message = "The parent collection does not exist"
    hint = None


class InfiniteDepth(DeniedError):
    """A PROPFIND asks for everything below a collection."""

    code = "infinite_depth"
    message = "Depth must be 0 or 1"
    hint = None
    http = 403
    condition: ClassVar[str] = "propfind-finite-depth"


class ProtectedResource(DeniedError):
    """The resource cannot be created, changed or removed in this way."""

    code = "protected_resource"
    message = "Forbidden"
    hint = None
    http = 403


class CollectionTooLarge(TawaraError):
    """A collection has more files than one transaction moves."""

    code = "collection_too_large"
    message = "The collection has too many files to be moved at once"
    hint = "Move its members one after the other."
    http = 507
