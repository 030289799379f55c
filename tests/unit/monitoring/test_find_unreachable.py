"""Findings about unreachable devices."""

from __future__ import annotations

from tawara.client.maintenance_replies import Absences
from tawara.model.cluster import DeviceAbsence, Liveness
from tawara.monitoring.findings import find_unreachable


def test_each_liveness_has_a_finding() -> None:
    """Each liveness state has one finding with the command that ends it; an active safety limit has one, too."""
    devices = {number: DeviceAbsence(liveness, since=1_700_000_000) for number, liveness in enumerate(Liveness, 1)}
    found = find_unreachable(Absences(devices, 900, "2 of 3 hosts"))
    assert [each.severity for each in found] == ["warning", "warning", "note", "note", "warning"]
    suspect, presumed, trusted, returned, safety_limit = (each.text for each in found)
    assert suspect.startswith("dev1: suspect, unreachable since ")
    assert suspect.endswith("; presumed dead after 15 minutes")
    assert "presumed dead" in presumed
    assert "`tawara device trust dev2`" in presumed
    assert trusted.startswith("dev3: unreachable and trusted")
    assert returned.startswith("dev4: back again")
    assert safety_limit == "No further device is presumed dead: 2 of 3 hosts"


def test_reachable_devices_have_no_finding() -> None:
    """There is no finding while all devices are reachable, nor for a safety limit that delays nothing."""
    assert find_unreachable(Absences({}, 900, "2 of 3 hosts")) == []


def test_a_disabled_detector_is_reported() -> None:
    """If devices are never presumed dead, the finding says so."""
    (said,) = find_unreachable(Absences({1: DeviceAbsence(Liveness.SUSPECT)}, 0, ""))
    assert said.text.endswith("never presumed dead")
