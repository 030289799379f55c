"""Parses the output of `smartctl --json -H -A` into a verdict (smartctl(8), JSON format 1.0; NVMe base 2.0)."""

from __future__ import annotations

import json
from typing import Any, Final

from tawara.model.health import DiskHealth, DiskVerdict

_SECTORS: Final = {5: "reallocated", 197: "pending", 198: "uncorrectable"}
"""ATA attributes whose raw value is the number of sectors that the disk could not read or write."""
_NVME_WARNINGS: Final = {
    0x01: "spare below its threshold",
    0x04: "reliability degraded",
    0x08: "read-only",
    0x10: "the volatile memory's backup has failed",
    0x20: "persistent memory read-only",
}
"""Bits of an NVMe drive's critical warning; 0x02, the temperature, is not a failure."""
_WORN_OUT: Final = 100
"""Percent of an NVMe drive's rated life at which it counts as worn."""


def read(output: bytes, now: int) -> DiskHealth:
    """Parse the health of one disk; UNKNOWN with smartctl's own message if it cannot be determined."""
    try:
        report = json.loads(output)
    except ValueError:
        return DiskHealth(DiskVerdict.UNKNOWN, detail="smartctl did not answer in JSON", checked_at=now)
    if not isinstance(report, dict):
        return DiskHealth(DiskVerdict.UNKNOWN, detail="smartctl did not answer with an object", checked_at=now)
    passed = _at(report, "smart_status", "passed")
    failing, worn = _ata(report)
    for found, more in zip((failing, worn), _nvme(report), strict=True):
        found += more
    if passed is False and not failing:
        failing.append("the disk's own assessment has failed")
    temperature = _number(_at(report, "temperature", "current"))
    if failing:
        return DiskHealth(DiskVerdict.FAILING, temperature, "; ".join(failing), now)
    if worn:
        return DiskHealth(DiskVerdict.WORN, temperature, "; ".join(worn), now)
    if passed is True:
        return DiskHealth(DiskVerdict.OK, temperature, "", now)
    return DiskHealth(DiskVerdict.UNKNOWN, temperature, _complaint(report), now)


def _ata(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """List the failing and the worn attributes of an ATA disk."""
    failing, worn = list[str](), list[str]()
    table = _at(report, "ata_smart_attributes", "table")
    for attribute in table if isinstance(table, list) else ():
        if not isinstance(attribute, dict):
            continue
        name = str(attribute.get("name", "an attribute")).replace("_", " ")
        raw = _number(_at(attribute, "raw", "value")) or 0
        if attribute.get("when_failed") == "now" and _at(attribute, "flags", "prefailure") is not False:
            failing.append(f"{name} is at {attribute.get('value')}, below its threshold of {attribute.get('thresh')}")
        elif (kind := _SECTORS.get(_number(attribute.get("id")) or 0)) and raw > 0:
            worn.append(f"{raw:,} sectors {kind}")
    return failing, worn


def _nvme(report: dict[str, Any]) -> tuple[list[str], list[str]]:
    """List the failing and the worn values in the health log of an NVMe drive."""
    log = report.get("nvme_smart_health_information_log")
    if not isinstance(log, dict):
        return [], []
    warning = _number(log.get("critical_warning")) or 0
    failing = [meaning for bit, meaning in _NVME_WARNINGS.items() if warning & bit]
    worn = []
    if errors := _number(log.get("media_errors")) or 0:
        worn.append(f"{errors:,} media errors")
    if (used := _number(log.get("percentage_used")) or 0) >= _WORN_OUT:
        worn.append(f"{used} % of its rated life used")
    return failing, worn


def _complaint(report: dict[str, Any]) -> str:
    messages = _at(report, "smartctl", "messages")
    texts = [
        str(each["string"])
        for each in (messages if isinstance(messages, list) else ())
        if isinstance(each, dict) and each.get("string")
    ]
    return "; ".join(texts) or "the disk does not say"


def _at(value: object, *names: str) -> Any:
    """Return the value at a path in nested objects; None if missing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and abs(value) < 2**63 else None
