"""Parses the replies of Tawara's trackers about the whole store into frozen values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from tawara.model import errors
from tawara.model.backlog import Queue
from tawara.model.certificates import ListenerCertificate
from tawara.model.removal import Removal
from tawara.model.safety import Safety, Tally

Reply = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class WorkRate:
    """Rate of one kind of work of all workers together, in units per second."""

    name: str
    rate: float
    """Recent rate."""
    capacity: float | None
    """Estimated maximum rate, from past work; None if unknown."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """State of the store."""

    now: int
    """The tracker's clock, unix seconds."""
    counted_at: int
    """When the files were counted."""
    safety: Safety
    queues: tuple[Queue, ...]
    processes: int
    """Running worker processes, as far as known."""
    works: tuple[WorkRate, ...]
    counting: bool = False
    """Whether the first count of the files is still running, so that the figures cover only a part of them."""
    changed_devices: int = 0
    """Devices whose state changed after the count; the figures do not include these changes."""
    stale: str = ""
    """Instructions for a database that is older than the data on the devices; empty if it is current."""
    certificates: tuple[ListenerCertificate, ...] = ()
    """The TLS certificates of the gateways."""

    @classmethod
    def read(cls, reply: Reply) -> StoreStatus:
        """Parse the reply to tawara_status."""
        safety = Safety(files=_number(reply, "files"), bytes=_number(reply, "bytes"))
        for each in fields(safety):
            value = getattr(safety, each.name)
            if isinstance(value, Tally):
                tally = Tally(_number_or_0(reply, f"{each.name}_files"), _number_or_0(reply, f"{each.name}_bytes"))
                setattr(safety, each.name, tally)
            elif isinstance(value, dict):
                setattr(safety, each.name, _by_number(_text(reply, each.name)))
        return cls(
            now=_number(reply, "now"),
            counted_at=_number(reply, "counted_at"),
            safety=safety,
            queues=tuple(_queue(reply, f"queue{number}") for number in range(1, _number(reply, "queues") + 1)),
            processes=_number(reply, "processes"),
            works=tuple(_work(reply, f"work{number}") for number in range(1, _number(reply, "works") + 1)),
            counting=bool(_number_or_0(reply, "counting")),
            changed_devices=_number_or_0(reply, "changed_devices"),
            stale=_text(reply, "stale"),
            certificates=tuple(
                ListenerCertificate(_text(reply, f"certificate{n}_listener"), _number(reply, f"certificate{n}_expires"))
                for n in range(1, _number_or_0(reply, "certificates") + 1)
            ),
        )

    def queue(self, name: str) -> Queue:
        """Return a queue by name; an empty one if not reported."""
        return next((each for each in self.queues if each.name == name), Queue(name, 0))

    def work(self, name: str) -> WorkRate | None:
        """Return the rate of a kind of work; None if no worker has reported it."""
        return next((each for each in self.works if each.name == name), None)


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """A placement group with the names of its domain and class; both empty when deleted."""

    domain: str
    storage_class: str
    devids: tuple[int, ...]
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PlacementCountsPage:
    """A page of placement groups."""

    counted_at: int
    all_groups: int
    groups: tuple[NamedGroup, ...]
    partial: bool
    """Whether only groups of files on some devices are included, because there are too many."""

    @classmethod
    def read(cls, reply: Reply) -> PlacementCountsPage:
        """Parse the reply to tawara_placement."""
        return cls(
            _number(reply, "counted_at"),
            _number(reply, "all_groups"),
            tuple(
                NamedGroup(
                    _text(reply, f"group{number}_domain"),
                    _text(reply, f"group{number}_class"),
                    tuple(int(each) for each in _text(reply, f"group{number}_devids").split(",") if each),
                    _number(reply, f"group{number}_files"),
                    _number(reply, f"group{number}_bytes"),
                )
                for number in range(1, _number(reply, "groups") + 1)
            ),
            bool(_number_or_0(reply, "partial")),
        )


def read_removal(reply: Reply) -> Removal:
    """Parse the reply to tawara_removal."""
    sentences = tuple(_text(reply, f"sentence{number}") for number in range(1, _number(reply, "sentences") + 1))
    refusal = _text(reply, "refusal")
    return Removal(sentences, errors.BY_CODE.get(refusal, errors.ConflictError) if refusal else None)


def _queue(reply: Reply, prefix: str) -> Queue:
    since = _text(reply, f"{prefix}_since")
    return Queue(
        _text(reply, f"{prefix}_name"),
        due=_number(reply, f"{prefix}_due"),
        later=_number(reply, f"{prefix}_later"),
        stuck=_number(reply, f"{prefix}_stuck"),
        since=int(since) if since else None,
    )


def _work(reply: Reply, prefix: str) -> WorkRate:
    capacity = _text(reply, f"{prefix}_capacity")
    return WorkRate(
        _text(reply, f"{prefix}_name"), float(_text(reply, f"{prefix}_rate")), float(capacity) if capacity else None
    )


def _by_number(text: str) -> dict[int, int]:
    pairs = (each.split(":") for each in text.split(",") if each)
    return {int(number): int(files) for number, files in pairs}


def _text(reply: Reply, name: str) -> str:
    return reply.get(name, b"").decode("utf-8", "surrogateescape")


def _number_or_0(reply: Reply, name: str) -> int:
    """Return a number, 0 if an older tracker does not report it."""
    return int(reply.get(name) or 0)


def _number(reply: Reply, name: str) -> int:
    return int(reply[name])
