"""What a person is told of devices that nobody sees."""

from __future__ import annotations

from tawara.cli.absent import findings
from tawara.client.maintenance_replies import Absences
from tawara.model.cluster import DeviceAbsence, Liveness


def test_every_standing_has_its_words() -> None:
    """One sentence for each standing, with what undoes it, and one for the brake while anything waits for it."""
    devices = {number: DeviceAbsence(liveness, since=1_700_000_000) for number, liveness in enumerate(Liveness, 1)}
    found = findings(Absences(devices, 900, "2 of 3 hosts"))
    assert [each.severity for each in found] == ["warning", "warning", "note", "note", "warning"]
    suspect, presumed, trusted, returned, safety_limit = (each.text for each in found)
    assert suspect.startswith("dev1: suspect, unreachable since ")
    assert suspect.endswith("; presumed dead after 15 minutes")
    assert "presumed dead" in presumed
    assert "`tawara device trust dev2`" in presumed
    assert trusted.startswith("dev3: unreachable and trusted")
    assert returned.startswith("dev4: back again")
    assert safety_limit == "No further device is presumed dead: 2 of 3 hosts"


def test_nothing_is_said_of_nothing() -> None:
    """No sentence while all devices are seen, nor of a brake that holds nothing back."""
    assert findings(Absences({}, 900, "2 of 3 hosts")) == []


def test_never_is_said() -> None:
    """Where nothing is ever presumed dead, that is told."""
    (said,) = findings(Absences({1: DeviceAbsence(Liveness.SUSPECT)}, 0, ""))
    assert said.text.endswith("never presumed dead")
