"""Evaluates the conditions of a request against the stored file (RFC 9110, section 13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.model.errors import PreconditionFailed
from tawara.model.files import StoredFile
from tawara.wire.http import ConditionResult, Conditions, Validators, entity_tag

UNCONDITIONAL = Conditions()

WriteConditions: TypeAlias = Conditions | Callable[[StoredFile | None], None]
"""The conditions of a change: those of HTTP, or a function that raises unless the current file (None: none) allows the
change."""


def validators(stored: StoredFile) -> Validators:
    """Return the validators of a stored file, with which conditions are compared."""
    return Validators(entity_tag(stored.fid, stored.length), stored.stored_at)


async def expected_fid(metadata: Metadata, dmid: int, key: bytes, conditions: WriteConditions) -> int | None:
    """Return the fid that the key must name when a change is committed: 0 for none, None for any.

    Raises PreconditionFailed when the conditions do not hold now, or what a function raises.
    """
    if conditions == UNCONDITIONAL:
        return None
    stored = await metadata.read(files.find, dmid, key)
    if not isinstance(conditions, Conditions):
        conditions(stored)
        return 0 if stored is None else stored.fid
    current = None if stored is None else validators(stored)
    if conditions.judge(current, reading=False) is not ConditionResult.PROCEED:
        raise PreconditionFailed
    return 0 if stored is None else stored.fid
