"""The condition that leaves reserved keys (model.reserved_keys) out of what users see."""

from __future__ import annotations

from typing import Final

from tawara.metadata.contract import Dialect
from tawara.metadata.dialect import successor
from tawara.model.reserved_keys import RESERVED

_END: Final = successor(RESERVED)


def keeps_reserved(dialect: Dialect) -> bool:
    """Return whether reserved keys can be stored: not in a database of MogileFS that keeps keys as text."""
    return dialect.exact_keys and dialect.byte_order


def visible(dialect: Dialect, column: str) -> tuple[str, list[object]]:
    """Return a condition, with its values, for the keys in `column` not to be reserved.

    It holds for all keys of a database that has no reserved ones.
    """
    if not keeps_reserved(dialect):
        return "1 = 1", []
    return f"NOT ({column} >= {dialect.key_value} AND {column} < {dialect.key_value})", [RESERVED, _END]
