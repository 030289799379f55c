"""What a check (fsck) has found, for people: what was wrong, what is repaired, and what needs a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from tawara.cli import output
from tawara.client import AsyncClient
from tawara.client.maintenance_replies import FsckLine, FsckStatus
from tawara.model.errors import Exit
from tawara.model.fsck import needs_a_person

MEANING = {
    "NOPA": "no replica known",
    "POVI": "too few copies, too many, or in the wrong places",
    "MISS": "replica not on its disk",
    "BLEN": "replica of the wrong length",
    "BSUM": "other bytes than were stored, or that the disk does not give",
    "MSUM": "replicas that differ, with nothing to tell which is right",
    "BALG": "checksum of another type than the class wants",
    "SRCH": "searched on every device",
    "FOND": "found by search",
    "GONE": "GONE: no good replica anywhere",
    "REPL": "queued to be copied",
    "BCNT": "number of copies corrected",
    "NSUM": "missing checksum stored",
}
"""What each code of the log says, the causes before the cures."""
_HOPELESS = ("GONE", "MSUM")
LINES = 10_000
"""Lines of the log that are read for a report; it says so when there are more."""
_NAMED = 100
"""Files that are named in a report."""


@dataclass
class FsckReport:
    """What the log says of the files that need a person."""

    hopeless: dict[int, list[FsckLine]] = field(default_factory=dict)
    """By fid."""
    cut_off: bool = False
    """Whether there is more in the log than was read."""


def gather(lines: Iterable[FsckLine]) -> FsckReport:
    """Sort lines by file, and keep those of the files that need a person."""
    by_fid: dict[int, list[FsckLine]] = {}
    for line in lines:
        if line.fid is not None:
            by_fid.setdefault(line.fid, []).append(line)
    return FsckReport(
        {fid: said for fid, said in by_fid.items() if needs_a_person((each.code, each.devid) for each in said)}
    )


async def look(client: AsyncClient, at: FsckStatus) -> FsckReport:
    """Read the check's part of the log. Nothing of a tracker that does not tell where that begins."""
    if at.start_logid is None or not any(at.counts.get(code) for code in (*_HOPELESS, "BSUM", "SRCH")):
        return FsckReport()
    lines: list[FsckLine] = []
    after = at.start_logid
    while more := await client.fsck_log(after):
        lines += more
        after = more[-1].logid
        if len(lines) >= LINES:
            break
    found = gather(lines)
    found.cut_off = bool(more)
    return found


async def report(client: AsyncClient, at: FsckStatus, *, as_json: bool) -> int:
    """Say all of that; the exit code is 7 if something needs a person."""
    found = await look(client, at)
    hopeless = bool(found.hopeless) or any(at.counts.get(code) for code in _HOPELESS)
    if as_json:
        person = [
            {"fid": fid, "domain": domain, "key": key, "found": [each.code for each in lines]}
            for fid, domain, key, lines in await _named(client, found.hopeless)
        ]
        output.json_line(asdict(at) | {"busy": at.busy, "needs_a_person": person})
    else:
        _say_counts(at)
        if found.hopeless:
            more = " or more" if found.cut_off else ""
            output.line(f"{len(found.hopeless)}{more} need a person; the rest repairs itself:")
            await name_them(client, found.hopeless)
        if not at.counts and not at.stalled:
            output.line("Nothing to report: every file that was checked is well.")
        elif at.counts and not hopeless:
            output.line("What was wrong is repaired, or being repaired.")
    return Exit.CORRUPT if hopeless else Exit.OK


def _say_counts(at: FsckStatus) -> None:
    for code, meaning in MEANING.items():
        if at.counts.get(code):
            output.line(f"{at.counts[code]:>9}  {code}  {meaning}")
    if at.stalled:
        output.line(f"{at.stalled:>9}        put off: a device of theirs does not answer")


def say_line(each: FsckLine) -> None:
    """A line of the log."""
    device = "" if each.devid is None else f"dev{each.devid}"
    where = f"{each.logid:>8}  {output.local_time(each.time)}  {each.fid or '-':>10}  {device:<8}"
    output.line(f"{where}  {each.code}  {MEANING.get(each.code, '')}".rstrip())


async def name_them(client: AsyncClient, hopeless: Mapping[int, list[FsckLine]]) -> None:
    """A line for each of the files that need a person, and what can be done; not for those that were deleted since."""
    for fid, domain, key, lines in await _named(client, hopeless):
        devices = ", ".join(sorted({f"dev{each.devid}" for each in lines if each.devid is not None}))
        output.line(
            f"  {output.shown(f'{domain}/{key}')} (fid {fid}): {advice([each.code for each in lines], devices)}"
        )
    if len(hopeless) > _NAMED:
        output.line("  … the log has them all.")


def advice(codes: Iterable[str], devices: str) -> str:
    """What is the matter with a file that needs a person, and what can be done."""
    said = set(codes)
    where = f" ({devices})" if devices else ""
    if "GONE" in said:
        return f"no device has it{where}; restore it from a backup, or delete it"
    if "SRCH" in said:
        return f"no replica has the bytes that were stored{where}; compare with a backup, and store it anew"
    if "BSUM" in said:
        return f"its replicas{where} are not what was stored, or differ; compare with a backup, and store it anew"
    return f"its replicas differ{where}, and nothing tells which is right; look, and store the right one anew"


async def _named(
    client: AsyncClient, hopeless: Mapping[int, list[FsckLine]]
) -> list[tuple[int, str, str, list[FsckLine]]]:
    """(fid, domain, key, lines) of the first of them; those that were deleted since are left out."""
    files = [file for fid in sorted(hopeless)[:_NAMED] for file in await client.files_from(fid) if file.fid == fid]
    return [(file.fid, file.domain, file.key, hopeless[file.fid]) for file in files]
