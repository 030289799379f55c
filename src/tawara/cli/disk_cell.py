"""The health of a disk as a cell of a table."""

from __future__ import annotations

from tawara.model.health import DiskHealth, DiskVerdict


def shown_health(health: DiskHealth | None) -> str:
    """Format the health of a disk for a table cell: `ok 38°C`, `failing 51°C`, `-` if unknown."""
    if health is None or (health.verdict is DiskVerdict.UNKNOWN and health.temperature is None):
        return "-"
    return health.verdict.value if health.temperature is None else f"{health.verdict.value} {health.temperature}°C"
