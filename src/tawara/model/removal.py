"""Describes the effect of removing a part of the cluster, or why it is refused, for a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tawara.model import errors
from tawara.model.cluster import DEFAULT_CLASS, DeviceState
from tawara.model.spans import counted, listed

MOST: Final = 100_000
"""Rows at which counting stops."""


@dataclass(frozen=True, slots=True)
class Removal:
    """Result of a dry run."""

    sentences: tuple[str, ...]
    refusal: type[errors.TawaraError] | None = None
    """The error that the removal would raise; None if it would succeed."""


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """Contents of a domain."""

    name: str
    files: int
    """Number of files, up to `MOST`."""
    uploads: int
    classes: tuple[str, ...]
    """Classes with their own row, without `default`."""
    example: bytes | None = None
    """A key of the domain."""


def of_domain(facts: DomainFacts) -> Removal:
    """Describe the removal of a domain."""
    if facts.files:
        example = f", for example {facts.example.decode('utf-8', 'replace')!r}" if facts.example else ""
        return Removal(
            (f"Domain {facts.name} has {_many(facts.files, 'file')}{example}: they have to go first",),
            errors.DomainHasFiles,
        )
    if facts.classes:
        return Removal(
            (f"Domain {facts.name} has classes of its own: {listed(list(facts.classes))}; they have to go first",),
            errors.DomainHasClasses,
        )
    said = [f"Domain {facts.name}, which is empty, would be removed"]
    if facts.uploads:
        said.append(f"{_many(facts.uploads, 'upload')} into it that are open could not be closed any more")
    return Removal(tuple(said))


@dataclass(frozen=True, slots=True)
class ClassFacts:
    """Contents of a class."""

    domain: str
    name: str
    files: int
    uploads: int


def of_class(facts: ClassFacts) -> Removal:
    """Describe the removal of a class."""
    if facts.name == DEFAULT_CLASS:
        return Removal(("The class default belongs to its domain, and goes with it",), errors.NodelDefaultClass)
    if facts.files:
        return Removal(
            (
                f"Class {facts.name} of {facts.domain} has {_many(facts.files, 'file')}:"
                " they have to be deleted, or moved to another class, first",
            ),
            errors.ClassHasFiles,
        )
    said = [f"Class {facts.name} of {facts.domain}, which has no files, would be removed"]
    if facts.uploads:
        said.append(f"{_many(facts.uploads, 'upload')} for it that are open would be stored in a class that is gone")
    return Removal(tuple(said))


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Contents of a device."""

    devid: int
    host: str
    state: DeviceState
    replicas: int
    """Rows of replicas, up to `MOST`."""
    copies: int
    """Copy reservations."""


def of_device(facts: DeviceFacts) -> Removal:
    """Describe the removal of a device, which must be dead and without rows of replicas or copies."""
    name = f"dev{facts.devid} on {facts.host}"
    if facts.state is not DeviceState.DEAD:
        has = f", and has {_many(facts.replicas, 'copy')}" if facts.replicas else ""
        return Removal(
            (f"{name} is {facts.state}{has}: only a device that is dead is removed (`tawara device change`)",),
            errors.DeviceInUse,
        )
    if facts.replicas or facts.copies:
        return Removal(
            (f"{name} is dead, but {_many(facts.replicas + facts.copies, 'copy')} on it are not replaced yet",),
            errors.DeviceInUse,
        )
    return Removal((f"{name}, which is dead and of which nothing is left, would be removed",))


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Contents of a host."""

    name: str
    devices: Mapping[int, DeviceState] = field(default_factory=dict)


def of_host(facts: HostFacts) -> Removal:
    """Describe the removal of a host."""
    if facts.devices:
        names = listed([f"dev{devid} ({state})" for devid, state in sorted(facts.devices.items())])
        return Removal((f"Host {facts.name} has devices: {names}; they have to be removed first",), errors.HostNotEmpty)
    return Removal((f"Host {facts.name}, which has no devices, would be removed",))


def of_setting(field_name: str, value: str | None) -> Removal:
    """Describe the removal of a setting, which returns to its default."""
    if value is None:
        return Removal((f"Setting {field_name} is not set: nothing would be removed",))
    return Removal((f"Setting {field_name}, now {value!r}, would go back to its default",))


def _many(number: int, thing: str) -> str:
    return counted(number, thing) if number < MOST else f"{MOST:,} or more {counted(2, thing).split()[1]}"
