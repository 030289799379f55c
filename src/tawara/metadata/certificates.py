"""When the certificates of gateways expire: rows of `server_settings`, so that every tracker can report them."""

from __future__ import annotations

from typing import Final

from tawara.metadata import cluster
from tawara.metadata.contract import Transaction
from tawara.model.certificates import FORGOTTEN_AFTER, ListenerCertificate
from tawara.model.settings import LONGEST_NAME

_PREFIX: Final = "tawara_tls_"


async def record(tx: Transaction, listener: str, *, expires: int, now: int) -> None:
    """Record the expiry of a listener's certificate; both times are unix seconds. Idempotent."""
    await cluster.set_setting(tx, f"{_PREFIX}{listener}"[:LONGEST_NAME], f"{expires} {now}")


async def load(tx: Transaction, *, now: int) -> list[ListenerCertificate]:
    """Return the certificates that were recorded lately, by listener; those of gateways that are gone are left out."""
    rows = await tx.rows("SELECT field, value FROM server_settings WHERE field LIKE ?", f"{_PREFIX}%")
    found = []
    for field, value in sorted(rows):
        expires, _, recorded = (value or "").partition(" ")
        if (
            field.startswith(_PREFIX)
            and expires.isdigit()
            and recorded.isdigit()
            and now - int(recorded) < FORGOTTEN_AFTER
        ):
            found.append(ListenerCertificate(field.removeprefix(_PREFIX), int(expires)))
    return found
