"""What checks and rebalances of the whole store have in common: one at a time, and one worker's turn at a time.

A run is a set of rows in `server_settings`, in the names that trackers of MogileFS know. Any worker may take the next
turn, whatever its host is called: it does so in a transaction that holds the runs' lock, so that its death undoes the
turn. Each function is one transaction, or part of one; times are unix seconds.
"""

from __future__ import annotations

from tawara.metadata import cluster
from tawara.metadata.contract import Transaction
from tawara.model.errors import FsckRunning, RebalRunning

TICK = 1
"""Seconds from one turn to the next."""


async def hold(tx: Transaction, prefix: str) -> dict[str, str]:
    """Be the only one to change runs until the transaction ends; the settings whose names begin with `prefix`."""
    await cluster.alone(tx)
    return await settings(tx, prefix)


async def settings(tx: Transaction, prefix: str) -> dict[str, str]:
    """The settings whose names begin with `prefix`, without those that are empty."""
    rows = await tx.rows("SELECT field, value FROM server_settings")
    return {field: value for field, value in rows if field.startswith(prefix) and value}


async def set_all(tx: Transaction, values: dict[str, str | int | None]) -> None:
    """Change settings; None removes one."""
    for field, value in values.items():
        await cluster.set_setting(tx, field, None if value is None else str(value))


async def take_tick(tx: Transaction, name: str, *, now: int) -> bool:
    """Whether the next turn is due; if so it is the caller's, who holds the lock, and nobody has one for a while."""
    field = f"tawara_{name}_turn"
    due = number(await cluster.get_setting(tx, field))
    if now < due <= now + TICK:  # one that is farther off was taken by a clock that is wrong
        return False
    await cluster.set_setting(tx, field, str(now + TICK))
    return True


def number(text: str | None, otherwise: int = 0) -> int:
    """A setting as a number; `otherwise` if it is not set, or none."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else otherwise


async def refuse_others(tx: Transaction, *, starting: str) -> None:
    """Raise FsckRunning or RebalRunning unless neither runs, in the words that fit what is `starting`."""
    running = await settings(tx, "")
    if running.get("fsck_host"):
        raise FsckRunning(
            "fsck is already running" if starting == "fsck" else "fsck running; cannot run rebalance at same time"
        )
    if running.get("rebal_host"):
        raise RebalRunning(
            "rebalance is already running"
            if starting == "rebalance"
            else "rebalance running; cannot run fsck at same time"
        )
