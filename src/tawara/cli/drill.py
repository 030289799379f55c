"""`tawara drill`: rebuild into a scratch database, and compare it with the live one (docs/recovery.md)."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, validators

from tawara.cli import output
from tawara.cli.database import HERE, Database
from tawara.metadata import cluster as rows
from tawara.metadata import journals
from tawara.model.cluster import Cluster
from tawara.model.drill import Differences
from tawara.model.errors import Exit
from tawara.model.journal_records import NamedFile
from tawara.nodes.client import NodeClient
from tawara.recovery import device_sources
from tawara.recovery.device_sources import DeviceSource
from tawara.recovery.drill import Drill
from tawara.wire.line import escape

SHOWN = 10


def drill(
    *,
    sample: Annotated[int | None, Parameter(validator=validators.Number(gte=1))] = None,
    look: bool = False,
    json: bool = False,
    database: Database = HERE,
) -> int:
    """See whether the names on the devices are good: rebuild into a scratch database, compare with what there is.

    The store goes on meanwhile, and nothing of it is changed. The exit code is 7 if there is a difference, 1 if a
    device could not be read, or there is none. For example:

        tawara drill -c /etc/tawara/tawara.toml --sample 2

    Parameters
    ----------
    sample
        Only so many devices, chosen at random, instead of all.
    look
        Also check that the bytes exist, and search for bytes without a row.
    json
        Report all as one JSON object.
    """
    return asyncio.run(_run(sample, look, database, json=json))


async def _run(sample: int | None, look: bool, database: Database, *, json: bool) -> int:
    async with database.open() as metadata, NodeClient() as nodes:
        cluster = await metadata.read(rows.load)
        chosen = _devices(cluster, nodes, sample)
        with tempfile.TemporaryDirectory(prefix="tawara-drill-") as spool:
            exercise = Drill(metadata, chosen, look=look)
            shown = output.ChangingLine()
            found = await exercise.compare_until_stable(Path(spool), shown.say)
            shown.clear()
        unnamed = await exercise.find_unknown_contents()
        waiting = await metadata.read(journals.waiting)
        due = await metadata.read(journals.look)
    young = {
        devid
        for devid in exercise.devids
        if (known := due.journals.get(devid)) is None
        or known.generation != due.generation
        or known.position is not None
    }
    late = {
        fid
        for fid in found.fids
        if fid in waiting or (fid in found.missing and set(found.missing[fid].devids) <= young)
    }
    wrong = found.only(found.fids - late)
    report = _report(exercise, wrong, late, unnamed)
    if json:
        output.json_line(report)
    else:
        _say(report)
    if wrong:
        return Exit.CORRUPT
    failed = report["silent"] or report["damaged"] or not report["devices"]
    return Exit.FAILURE if failed else Exit.OK


def _devices(cluster: Cluster, nodes: NodeClient, sample: int | None) -> list[DeviceSource]:
    devids = [devid for devid in sorted(cluster.devices) if cluster.can_read_from(devid)]
    if sample is not None and sample < len(devids):
        devids = sorted(random.sample(devids, sample))
    origins = [(devid, cluster.origin(devid)) for devid in devids]
    return [device_sources.through_node(nodes, origin, devid) for devid, origin in origins if origin]


# --- output -----------------------------------------------------------------------------------------------------------


def _report(
    exercise: Drill, wrong: Differences, late: set[int], unnamed: Mapping[int, Sequence[int]]
) -> dict[str, Any]:
    read = exercise.read
    return {
        "devices": sorted(exercise.devids),
        "files": exercise.compared,
        "missing": [_named(each) for each in wrong.missing.values()],
        "surplus": [_named(each) for each in wrong.surplus.values()],
        "other": [{"is": _named(one), "would_be": _named(two)} for one, two in wrong.other.values()],
        "not_yet_written": len(late),
        "nameless": {str(fid): devids for fid, devids in unnamed.items()},
        "not_listed": [f"dev{devid}" for devid in read.unlisted],
        "damaged": {f"dev{devid}": paths for devid, paths in read.damaged.items()},
        "silent": {f"dev{devid}": reason for devid, reason in read.silent.items()},
    }


def _named(file: NamedFile) -> dict[str, Any]:
    facts = file.facts
    return {
        "fid": file.fid,
        "dmid": facts.dmid,
        "key": escape(facts.key).decode(),
        "class": facts.classid,
        "length": facts.length,
        "devids": list(file.devids),
    }


_LISTS = (
    ("missing", "would not be rebuilt"),
    ("surplus", "would be rebuilt, and is not there"),
    ("other", "would be rebuilt otherwise"),
)


def _say(report: dict[str, Any]) -> None:
    wrong = sum(len(report[name]) for name, _ in _LISTS)
    devices = len(report["devices"])
    verdict = "every one would be rebuilt as it is" if not wrong else f"{wrong:,} would not be rebuilt as they are"
    if not report["files"] and not wrong:
        verdict = "nothing was compared"
    output.line(f"{report['files']:,} files on {devices} device{'' if devices == 1 else 's'}: {verdict}.")
    for name, words in _LISTS:
        for each in report[name][:SHOWN]:
            output.line(f"  {output.printable(f'{words}: {each}')}")
    if report["not_yet_written"]:
        output.line(f"{report['not_yet_written']:,} changes are not written on the devices yet.")
    if report["nameless"]:
        output.line(
            f"{len(report['nameless']):,} fids have bytes on devices, and no row of the database is about them:"
        )
        for fid, devids in list(report["nameless"].items())[:SHOWN]:
            output.line(f"  {fid} on {', '.join(f'dev{devid}' for devid in devids)}")
    if report["not_listed"]:
        output.line(f"Whether there are such bytes on {', '.join(report['not_listed'])} is unknown: no list.")
    for name in ("damaged", "silent"):
        for device, why in report[name].items():
            output.line(f"{device}: {why}")
