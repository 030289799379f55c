"""The report of a check (fsck): what was wrong, what is repaired, and what needs manual intervention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from tawara.cli import output
from tawara.client import AsyncClient
from tawara.client.maintenance_replies import FsckLine, FsckStatus
from tawara.model.errors import Exit
from tawara.model.fsck import needs_operator

MEANING = {
    "NOPA": "no replica known",
    "POVI": "too few copies, too many, or in the wrong places",
    "MISS": "replica not on its disk",
    "BLEN": "replica of the wrong length",
    "BSUM": "bytes differ from those that were stored, or are unreadable",
    "MSUM": "replicas differ, and it is unknown which is right",
    "BALG": "checksum of another type than the class requires",
    "SRCH": "searched on every device",
    "FOND": "found by search",
    "GONE": "GONE: no good replica anywhere",
    "REPL": "queued to be copied",
    "BCNT": "number of copies corrected",
    "NSUM": "missing checksum stored",
}
"""Code of the log -> meaning; problems first, then repairs."""
_UNREPAIRABLE = ("GONE", "MSUM")
LINES = 10_000
"""Maximum lines of the log that are read for a report; the report says if there are more."""
_NAMED = 100
"""Maximum files that a report names."""


@dataclass
class FsckReport:
    """Lines of the log about files that need manual intervention."""

    unrepairable: dict[int, list[FsckLine]] = field(default_factory=dict)
    """By fid."""
    cut_off: bool = False
    """Whether the log has more lines than were read."""


def gather(lines: Iterable[FsckLine]) -> FsckReport:
    """Group lines by file, and keep those of files that need manual intervention."""
    by_fid: dict[int, list[FsckLine]] = {}
    for line in lines:
        if line.fid is not None:
            by_fid.setdefault(line.fid, []).append(line)
    return FsckReport(
        {fid: said for fid, said in by_fid.items() if needs_operator((each.code, each.devid) for each in said)}
    )


async def read_report(client: AsyncClient, at: FsckStatus) -> FsckReport:
    """Read the check's part of the log. Empty if the tracker does not report where it begins."""
    if at.start_logid is None or not any(at.counts.get(code) for code in (*_UNREPAIRABLE, "BSUM", "SRCH")):
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
    """Print the report; return 7 if a file needs manual intervention."""
    found = await read_report(client, at)
    unrepairable = bool(found.unrepairable) or any(at.counts.get(code) for code in _UNREPAIRABLE)
    if as_json:
        person = [
            {"fid": fid, "domain": domain, "key": key, "found": [each.code for each in lines]}
            for fid, domain, key, lines in await _named(client, found.unrepairable)
        ]
        output.json_line(asdict(at) | {"busy": at.busy, "needs_operator": person})
    else:
        _print_counts(at)
        if found.unrepairable:
            more = " or more" if found.cut_off else ""
            output.line(f"{len(found.unrepairable)}{more} need manual intervention; the others are being repaired:")
            await print_advice(client, found.unrepairable)
        if not at.counts and not at.stalled:
            output.line("Every checked file is good.")
        elif at.counts and not unrepairable:
            output.line("All problems are repaired or being repaired.")
    return Exit.CORRUPT if unrepairable else Exit.OK


def _print_counts(at: FsckStatus) -> None:
    for code, meaning in MEANING.items():
        if at.counts.get(code):
            output.line(f"{at.counts[code]:>9}  {code}  {meaning}")
    if at.stalled:
        output.line(f"{at.stalled:>9}        deferred: a device does not answer")


def print_line(each: FsckLine) -> None:
    """Format a line of the log."""
    device = "" if each.devid is None else f"dev{each.devid}"
    where = f"{each.logid:>8}  {output.local_time(each.time)}  {each.fid or '-':>10}  {device:<8}"
    output.line(f"{where}  {each.code}  {MEANING.get(each.code, '')}".rstrip())


async def print_advice(client: AsyncClient, unrepairable: Mapping[int, list[FsckLine]]) -> None:
    """Print a line with advice for each file that needs manual intervention and still exists."""
    for fid, domain, key, lines in await _named(client, unrepairable):
        devices = ", ".join(sorted({f"dev{each.devid}" for each in lines if each.devid is not None}))
        output.line(
            f"  {output.shown(f'{domain}/{key}')} (fid {fid}): {advice([each.code for each in lines], devices)}"
        )
    if len(unrepairable) > _NAMED:
        output.line("  … the log has all of them.")


def advice(codes: Iterable[str], devices: str) -> str:
    """Return the problem of a file that needs manual intervention, and what to do."""
    said = set(codes)
    where = f" ({devices})" if devices else ""
    if "GONE" in said:
        return f"no device has it{where}; restore it from a backup, or delete it"
    if "SRCH" in said:
        return f"no replica has the bytes that were stored{where}; compare with a backup, and store it again"
    if "BSUM" in said:
        return f"its replicas{where} are not what was stored, or differ; compare with a backup, and store it again"
    return f"its replicas differ{where}, and it is unknown which is right; compare them, and store the right one again"


async def _named(
    client: AsyncClient, unrepairable: Mapping[int, list[FsckLine]]
) -> list[tuple[int, str, str, list[FsckLine]]]:
    """Return (fid, domain, key, lines) of the first of these files; deleted files are omitted."""
    files = [file for fid in sorted(unrepairable)[:_NAMED] for file in await client.files_from(fid) if file.fid == fid]
    return [(file.fid, file.domain, file.key, unrepairable[file.fid]) for file in files]
