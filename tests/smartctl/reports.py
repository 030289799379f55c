"""Output of smartctl 7.3 with `--json -H -A` for a disk of each kind and condition; and a program that prints it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def _report(*, exit_status: int = 0, message: str | None = None, **more: Any) -> dict[str, Any]:
    about: dict[str, Any] = {
        "version": [7, 3],
        "svn_revision": "5338",
        "platform_info": "x86_64-linux-6.1.0-18-amd64",
        "build_info": "(local build)",
        "argv": ["smartctl", "--json", "-H", "-A", "/dev/sda"],
        "exit_status": exit_status,
    }
    if message is not None:
        about["messages"] = [{"string": message, "severity": "error"}]
    return {"json_format_version": [1, 0], "smartctl": about, **more}


def _attribute(number: int, name: str, value: int, thresh: int, raw: int, *, prefail: bool, failed: str = "") -> Any:
    return {
        "id": number,
        "name": name,
        "value": value,
        "worst": value,
        "thresh": thresh,
        "when_failed": failed,
        "flags": {
            "value": 51 if prefail else 50,
            "string": "PO--CK " if prefail else "-O--CK ",
            "prefailure": prefail,
            "updated_online": True,
            "performance": False,
            "error_rate": False,
            "event_count": True,
            "auto_keep": True,
        },
        "raw": {"value": raw, "string": str(raw)},
    }


def sata(*, passed: bool = True, reallocated: int = 0, pending: int = 0, failed: str = "") -> dict[str, Any]:
    """A SATA disk."""
    value = 5 if failed else 100
    table = [
        _attribute(1, "Raw_Read_Error_Rate", 117, 6, 152_399_016, prefail=True),
        _attribute(5, "Reallocated_Sector_Ct", value, 10, reallocated, prefail=True, failed=failed),
        _attribute(9, "Power_On_Hours", 71, 0, 25_893, prefail=False),
        _attribute(190, "Airflow_Temperature_Cel", 62, 45, 38, prefail=False, failed="past"),
        _attribute(194, "Temperature_Celsius", 38, 0, 38, prefail=False),
        _attribute(197, "Current_Pending_Sector", 100, 0, pending, prefail=False),
        _attribute(198, "Offline_Uncorrectable", 100, 0, 0, prefail=False),
    ]
    return _report(
        exit_status=0 if passed else 8,
        device={"name": "/dev/sda", "info_name": "/dev/sda [SAT]", "type": "sat", "protocol": "ATA"},
        smart_status={"passed": passed},
        ata_smart_attributes={"revision": 10, "table": table},
        power_on_time={"hours": 25_893},
        power_cycle_count=31,
        temperature={"current": 38},
    )


def nvme(*, warning: int = 0, passed: bool = True, media_errors: int = 0, used: int = 3) -> dict[str, Any]:
    """An NVMe drive."""
    return _report(
        exit_status=0 if passed else 8,
        device={"name": "/dev/nvme0n1", "info_name": "/dev/nvme0n1", "type": "nvme", "protocol": "NVMe"},
        smart_status={"passed": passed, "nvme": {"value": warning}},
        nvme_smart_health_information_log={
            "critical_warning": warning,
            "temperature": 41,
            "available_spare": 100,
            "available_spare_threshold": 10,
            "percentage_used": used,
            "data_units_read": 13_012_044,
            "media_errors": media_errors,
            "num_err_log_entries": 0,
        },
        temperature={"current": 41},
        power_on_time={"hours": 8120},
    )


NO_PERMISSION = _report(exit_status=2, message="Smartctl open device: /dev/sda failed: Permission denied")
VIRTUAL = _report(exit_status=1, message="/dev/vda: Unable to detect device type")
UNSUPPORTED = _report(
    exit_status=4,
    device={"name": "/dev/sda", "info_name": "/dev/sda", "type": "scsi", "protocol": "SCSI"},
    temperature={"current": 0, "drive_trip": 0},
)


def program(directory: Path, report: object, *, sleep: float = 0.0) -> Path:
    """Create a program `smartctl` in a directory that prints this for any arguments, and records the arguments."""
    directory.mkdir(exist_ok=True)
    text = report if isinstance(report, str) else json.dumps(report, indent=2)
    (directory / "report.json").write_text(text)
    made = directory / "smartctl"
    made.write_text(f'#!/bin/sh\necho "$@" >> {directory}/asked\nsleep {sleep}\ncat {directory}/report.json\nexit 4\n')
    made.chmod(0o755)
    return made
