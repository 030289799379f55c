"""What trackers answer of the care for files, as values: checks, the scrub, drains, absences, explanations. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tawara.client.reply import Reply, number_of, rows_of, text_of
from tawara.model.cluster import DeviceAbsence, Liveness
from tawara.model.explanation import Explanation, FileVerdict, Sentence, Topic
from tawara.model.rebalance import RebalanceState


@dataclass(frozen=True, slots=True)
class FsckStatus:
    """How a check of all files stands. Times are unix seconds, 0 for never."""

    running: bool
    """Whether files are still being queued; those in the queue may take longer."""
    host: str
    """Where it was started."""
    position: int
    """The highest fid that was queued to be checked."""
    end: int
    """The highest fid that is to be checked."""
    policy_only: bool
    start_time: int
    stop_time: int
    current_time: int
    last_logid: int
    queued: int | None
    """Files that wait or are looked at; None if the tracker does not tell (MogileFS does not)."""
    stalled: int | None
    """Files that were put off, for a device does not answer; None as before."""
    counts: dict[str, int]
    """Lines of the log, by code."""
    start_fid: int | None = None
    """Behind which fid it began, or went on; None if the tracker does not tell."""
    checked: int | None = None
    """Files queued since then; None as before."""
    start_logid: int | None = None
    """The last line of the log before its own; None as before."""
    focus: str = ""
    """What it is confined to, in words; empty for every file."""
    stale: str = ""
    """What to do about a database that is older than what the devices hold; empty if it is not."""

    @property
    def busy(self) -> bool:
        """Whether anything is still to be done."""
        return self.running or bool(self.queued)

    @classmethod
    def read(cls, reply: Reply) -> FsckStatus:
        """From the reply to fsck_status."""
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
    """How the continuous scrub stands. Times are unix seconds."""

    period: int
    """Seconds in which every byte is read again; 0 when the scrub is off."""
    began: int
    """When this round began; 0 if none has."""
    position: int
    """The highest fid that was queued to be read."""
    end: int
    """The highest fid of the round."""
    checked: int
    """Files queued in this round."""
    current_time: int
    queued: int
    """Files that wait, or are being read."""
    stalled: int
    """Files that were put off, for a device does not answer."""
    last_logid: int
    counts: dict[str, int]
    """Lines of the log, by code."""
    left: int = 0
    """Files of this round that are still to be queued."""
    expected_end: int = 0
    """When this round is expected to end; 0 if there is none."""
    late: bool = False
    """Whether it does not keep its period."""
    bad_replicas: int = 0
    """Replicas that were found bad within the last period, of files that are still there..."""
    bad_files: int = 0
    """... of so many files,"""
    bad_waiting: int = 0
    """of which so many still wait for good copies."""
    hopeless: int = 0
    """Files that need manual intervention, by what was found within the last period."""
    mended: int = 0
    """Of those with bad replicas the files whose damage is undone."""

    @classmethod
    def read(cls, reply: Reply) -> ScrubStatus:
        """From the reply to scrub_status."""
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
            hopeless=int(reply.get("hopeless", 0)),
            mended=int(reply.get("mended", 0)),
        )


def _counts(reply: Reply) -> dict[str, int]:
    return {name[4:]: int(count) for name, count in sorted(reply.items()) if name.startswith("num_")}


@dataclass(frozen=True, slots=True)
class FsckLine:
    """A line of the check's log."""

    logid: int
    time: int
    """Unix seconds."""
    code: str
    fid: int | None
    devid: int | None

    @staticmethod
    def read(reply: Reply) -> list[FsckLine]:
        """From the reply to fsck_getlog."""
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
    """How the emptying of a device stands. Times are unix seconds."""

    devid: int
    began: int
    files: int
    """Replicas that it had at the beginning."""
    left: int
    """Replicas that are still on it."""
    waiting: int
    """Of these, those whose move waits or is under way."""
    failed: int
    """Of these, those whose move failed, and is tried again."""
    uploads: int
    """Uploads under way that may still go there."""
    uploads_until: int
    """When the last of these is given up if it is abandoned, unix seconds; 0 if there is none."""
    copies: int
    """Places on it whose bytes are still to be deleted."""
    safe: bool
    """Whether the device may be pulled."""
    current_time: int

    @staticmethod
    def read(reply: Reply) -> list[DrainStatus]:
        """From the reply to drain_status."""
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
    """The devices that no process reaches."""

    devices: Mapping[int, DeviceAbsence]
    after: int
    """Seconds of absence after which a device is presumed dead; 0 for never."""
    safety_limit: str
    """Why no further device is presumed dead now; empty if none is held back."""

    @staticmethod
    def read(reply: Reply) -> Absences:
        """From the reply to tawara_absences."""
        devices = {
            int(row["devid"]): DeviceAbsence(
                Liveness(row.text("standing")),
                int(row["seconds"]),
                to_queue=row["to_queue"] == b"1",
                since=int(row["since"]),
            )
            for row in rows_of(reply, "absences", "absence{}_")
        }
        return Absences(devices, int(reply["after"]), text_of(reply, "brake"))


def read_explanation(reply: Reply) -> Explanation:
    """From the reply to tawara_explain."""
    return Explanation(
        FileVerdict(text_of(reply, "verdict")),
        tuple(
            Sentence(Topic(row.text("topic")), row.text("text"), row.number("trouble") == 1)
            for row in rows_of(reply, "sentences", "sentence{}_")
        ),
        number_of(reply, "fid"),
    )


def read_state(reply: Reply) -> RebalanceState:
    """From the replies to rebalance_start and rebalance_status."""
    return RebalanceState.parse(text_of(reply, "state"))
