"""What trackers of ours tell of the whole store, as values. Pure: reply arguments in, frozen values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from tawara.model import errors
from tawara.model.backlog import Queue
from tawara.model.removal import Removal
from tawara.model.safety import Safety, Tally

Reply = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class WorkRate:
    """How fast all workers together do one kind of work, in units a second."""

    name: str
    rate: float
    """Recent rate."""
    capacity: float | None
    """What they are capable of, by what they have done; None if that is not known."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """How the store is."""

    now: int
    """The tracker's clock, unix seconds."""
    counted_at: int
    """When the files were counted."""
    safety: Safety
    queues: tuple[Queue, ...]
    processes: int
    """Processes of workers that run, as far as can be told."""
    works: tuple[WorkRate, ...]
    counting: bool = False
    """Whether files are being counted for the first time: the figures are those of the first part."""
    changed_devices: int = 0
    """Devices whose state has changed since the files were counted, without the figures following that."""
    stale: str = ""
    """What to do about a database that is older than what the devices hold; empty if it is not."""

    @classmethod
    def read(cls, reply: Reply) -> StoreStatus:
        """From the reply to tawara_status."""
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
        )

    def queue(self, name: str) -> Queue:
        """A queue by its name; an empty one if the tracker does not tell of it."""
        return next((each for each in self.queues if each.name == name), Queue(name, 0))

    def work(self, name: str) -> WorkRate | None:
        """A kind of work by its name; None if no worker has ever told of it."""
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
    """A part of the groups of files."""

    counted_at: int
    all_groups: int
    groups: tuple[NamedGroup, ...]
    partial: bool
    """Whether the groups are those of files on some devices only, for there are too many others."""

    @classmethod
    def read(cls, reply: Reply) -> PlacementCountsPage:
        """From the reply to tawara_census."""
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
    """From the reply to tawara_removal."""
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
    """A figure that a tracker of an earlier version does not tell."""
    return int(reply.get(name) or 0)


def _number(reply: Reply, name: str) -> int:
    return int(reply[name])
