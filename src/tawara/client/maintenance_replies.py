"""Parses tracker replies about maintenance: fsck, scrub, drains, absent devices, explanations. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tawara.client.reply import Reply, number_of, rows_of, text_of
from tawara.model.cluster import DeviceAbsence, Liveness
from tawara.model.explanation import Explanation, FileVerdict, Statement, Topic
from tawara.model.rebalance import RebalanceState


@dataclass(frozen=True, slots=True)
class FsckStatus:
    """State of a check (fsck) of all files. Times are unix seconds, 0 for never."""

    running: bool
    """Whether files are still being queued; queued files may be checked later."""
    host: str
    """The host on which it was started."""
    position: int
    """The highest fid that was queued."""
    end: int
    """The highest fid to check."""
    policy_only: bool
    start_time: int
    stop_time: int
    current_time: int
    last_logid: int
    queued: int | None
    """Files that are queued or being checked; None if not reported (as by MogileFS)."""
    stalled: int | None
    """Files deferred because a device does not respond; None if not reported."""
    counts: dict[str, int]
    """Number of log lines, by code."""
    start_fid: int | None = None
    """The fid after which it started or resumed; None if not reported."""
    checked: int | None = None
    """Files queued since the start; None if not reported."""
    start_logid: int | None = None
    """Id of the last log line before this check; None if not reported."""
    focus: str = ""
    """Description of the files that it is limited to; empty for all files."""
    stale: str = ""
    """Instructions for a database that is older than the data on the devices; empty if it is current."""

    @property
    def busy(self) -> bool:
        """Whether files remain to be queued or checked."""
        return self.running or bool(self.queued)

    @classmethod
    def read(cls, reply: Reply) -> FsckStatus:
        """Parse the reply to fsck_status."""
        return cls(
            running=number_of(reply, "running") == 1,
            host=text_of(reply, "host"),
            position=number_of(reply, "max_fid_checked") or 0,
            end=number_of(reply, "end_fid") or 0,
            policy_only=number_of(reply, "policy_only") == 1,
            start_time=number_of(reply, "start_time") or 0,
            stop_time=number_of(reply, "stop_time") or 0,
            current_time=number_of(reply, "current_time") or 0,
            last_logid=number_of(reply, "max_logid") or 0,
            queued=number_of(reply, "queued"),
            stalled=number_of(reply, "stalled"),
            counts=_counts(reply),
            start_fid=number_of(reply, "start_fid"),
            checked=number_of(reply, "checked"),
            start_logid=number_of(reply, "start_logid"),
            focus=_focus(reply),
            stale=text_of(reply, "stale"),
        )


def _focus(reply: Reply) -> str:
    words = [
        f"{word} {text}"
        for word in ("domain", "class", "prefix", "devices")
        if (text := text_of(reply, f"focus_{word}"))
    ]
    return ", ".join([*words, *(["every byte"] if reply.get("every_byte") else [])])


@dataclass(frozen=True, slots=True)
class ScrubStatus:
    """State of the continuous scrub. Times are unix seconds."""

    period: int
    """Seconds within which every byte is read once; 0 if the scrub is off."""
    began: int
    """Start of this pass; 0 if the scrub has never run."""
    position: int
    """The highest fid that was queued in this pass."""
    end: int
    """The highest fid of the pass."""
    checked: int
    """Files queued in this pass."""
    current_time: int
    queued: int
    """Files that are queued or being read."""
    stalled: int
    """Files deferred because a device does not respond."""
    last_logid: int
    counts: dict[str, int]
    """Number of log lines, by code."""
    left: int = 0
    """Files of this pass that are still to be queued."""
    expected_end: int = 0
    """Expected end of this pass; 0 if none is running."""
    late: bool = False
    """Whether the pass will take longer than the period."""
    bad_replicas: int = 0
    """Replicas of existing files that were found bad within the last period."""
    bad_files: int = 0
    """Number of files with such replicas."""
    bad_waiting: int = 0
    """Number of these files that still wait for good copies."""
    unrepairable: int = 0
    """Files that need manual intervention, as found within the last period."""
    repaired: int = 0
    """Number of files with bad replicas that have been repaired."""

    @classmethod
    def read(cls, reply: Reply) -> ScrubStatus:
        """Parse the reply to scrub_status."""
        return cls(
            period=int(reply["period"]),
            began=int(reply["began"]),
            position=int(reply["max_fid_checked"]),
            end=int(reply["end_fid"]),
            checked=int(reply["checked"]),
            current_time=int(reply["current_time"]),
            queued=int(reply["queued"]),
            stalled=int(reply["stalled"]),
            last_logid=int(reply["max_logid"]),
            counts=_counts(reply),
            left=int(reply.get("left", 0)),
            expected_end=int(reply.get("expected_end", 0)),
            late=reply.get("late") == b"1",
            bad_replicas=int(reply.get("bad_replicas", 0)),
            bad_files=int(reply.get("bad_files", 0)),
            bad_waiting=int(reply.get("bad_waiting", 0)),
            unrepairable=int(reply.get("unrepairable", 0)),
            repaired=int(reply.get("repaired", 0)),
        )


def _counts(reply: Reply) -> dict[str, int]:
    return {name[4:]: int(count) for name, count in sorted(reply.items()) if name.startswith("num_")}


@dataclass(frozen=True, slots=True)
class FsckLine:
    """A line of the fsck log."""

    logid: int
    time: int
    """Unix seconds."""
    code: str
    fid: int | None
    devid: int | None

    @staticmethod
    def read(reply: Reply) -> list[FsckLine]:
        """Parse the reply to fsck_getlog."""
        return [
            FsckLine(
                logid=int(row["logid"]),
                time=int(row["utime"]),
                code=row.text("evcode"),
                fid=row.number("fid"),
                devid=row.number("devid"),
            )
            for row in rows_of(reply, "row_count", "row_{}_")
        ]


@dataclass(frozen=True, slots=True)
class DrainStatus:
    """State of the drain of a device. Times are unix seconds."""

    devid: int
    began: int
    files: int
    """Replicas on the device at the start of the drain."""
    left: int
    """Replicas still on the device."""
    waiting: int
    """Number of these whose move is queued or running."""
    failed: int
    """Number of these whose move failed and will be retried."""
    uploads: int
    """Open uploads that may still write to the device."""
    uploads_until: int
    """When the last of these expires if it is abandoned; 0 without open uploads."""
    copies: int
    """Copy reservations on the device whose bytes are still to be deleted."""
    safe: bool
    """Whether the device can be removed without loss."""
    current_time: int

    @staticmethod
    def read(reply: Reply) -> list[DrainStatus]:
        """Parse the reply to drain_status."""
        return [
            DrainStatus(
                devid=int(row["devid"]),
                began=int(row["began"]),
                files=int(row["files"]),
                left=int(row["left"]),
                waiting=int(row["waiting"]),
                failed=int(row["failed"]),
                uploads=int(row["uploads"]),
                uploads_until=row.number("uploads_until") or 0,
                copies=int(row["copies"]),
                safe=row.number("safe") == 1,
                current_time=int(reply["current_time"]),
            )
            for row in rows_of(reply, "devices", "dev{}_")
        ]


@dataclass(frozen=True, slots=True)
class Absences:
    """The unreachable devices."""

    devices: Mapping[int, DeviceAbsence]
    after: int
    """Seconds of being unreachable after which a device is presumed dead; 0 for never."""
    safety_limit: str
    """Reason why no further device is presumed dead now; empty if no safety limit is active."""

    @staticmethod
    def read(reply: Reply) -> Absences:
        """Parse the reply to tawara_absences."""
        devices = {
            int(row["devid"]): DeviceAbsence(
                Liveness(row.text("liveness")),
                int(row["seconds"]),
                to_queue=row["to_queue"] == b"1",
                since=int(row["since"]),
            )
            for row in rows_of(reply, "absences", "absence{}_")
        }
        return Absences(devices, int(reply["after"]), text_of(reply, "brake"))


def read_explanation(reply: Reply) -> Explanation:
    """Parse the reply to tawara_explain."""
    return Explanation(
        FileVerdict(text_of(reply, "verdict")),
        tuple(
            Statement(Topic(row.text("topic")), row.text("text"), row.number("trouble") == 1)
            for row in rows_of(reply, "sentences", "sentence{}_")
        ),
        number_of(reply, "fid"),
    )


def read_state(reply: Reply) -> RebalanceState:
    """Parse the reply to rebalance_start or rebalance_status."""
    return RebalanceState.parse(text_of(reply, "state"))
