"""The scheduling that runs over all files (fsck, rebalance) share: one run at a time, one scheduling tick at a time.

A run is a set of rows in `server_settings`, with the names that MogileFS's trackers know. Any worker on any host may
take the next tick, in a transaction that holds the lock of the runs, so that its death undoes the tick. Each function
is one transaction, or part of one; times are unix seconds."""

from __future__ import annotations

from tawara.metadata import cluster
from tawara.metadata.contract import Transaction
from tawara.model.errors import FsckRunning, RebalRunning

TICK = 1
"""Seconds from one tick to the next."""


async def lock(tx: Transaction, prefix: str) -> dict[str, str]:
    """Lock the runs until the transaction ends; return the settings whose names begin with `prefix`."""
    await cluster.serialise(tx)
    return await settings(tx, prefix)


async def settings(tx: Transaction, prefix: str) -> dict[str, str]:
    """Return the settings whose names begin with `prefix`, without those that are empty."""
    rows = await tx.rows("SELECT field, value FROM server_settings")
    return {field: value for field, value in rows if field.startswith(prefix) and value}


async def set_all(tx: Transaction, values: dict[str, str | int | None]) -> None:
    """Change settings; None removes one."""
    for field, value in values.items():
        await cluster.set_setting(tx, field, None if value is None else str(value))


async def take_tick(tx: Transaction, name: str, *, now: int) -> bool:
    """Take the next tick if it is due; return whether it was. The caller holds the lock (`lock`)."""
    field = f"tawara_{name}_turn"
    due = number(await cluster.get_setting(tx, field))
    if now < due <= now + TICK:  # a tick further ahead was dated by a wrong clock
        return False
    await cluster.set_setting(tx, field, str(now + TICK))
    return True


def number(text: str | None, otherwise: int = 0) -> int:
    """Parse a setting as a number; return `otherwise` if it is not set, or is not a number."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else otherwise


async def refuse_others(tx: Transaction, *, starting: str) -> None:
    """Raise FsckRunning or RebalRunning if either runs, with a text that matches what is `starting`."""
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
