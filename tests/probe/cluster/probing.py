"""One probe after another: load, fault, repair, and a check of the result."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.probe.cluster import audit, isolation
from tests.probe.cluster.faults import Fault, Scene
from tests.probe.cluster.load import CLIENTS, Load, Outcome
from tests.probe.cluster.machines import Machines, machines

BEFORE, AFTER = 3.0, 3.0
"""Seconds of load before a fault, and after it was healed."""
REPAIR = 240.0
"""Seconds that the store may take to give every file its copies: a lease of a killed worker lasts one minute."""
SETTLING = 240.0
"""Seconds that it may take from then on until nothing waits and no bytes are left that no row names."""
SHOWN = 10
"""Complaints of a kind that are shown."""


@dataclass
class Result:
    """The result of a fault."""

    fault: str
    skipped: str = ""
    """Why it was not tried."""
    usual_rate: float = 0.0
    """Requests answered in a second before the fault."""
    rate: float = 0.0
    """The same, well answered, during the fault."""
    failed: float = 0.0
    """The share of requests that failed during the fault."""
    slowest: float = 0.0
    """Seconds that the slowest answer took during the fault."""
    stored: int = 0
    """Keys that were judged."""
    lost: list[str] = field(default_factory=list)
    """Acknowledged and not there, or not as acknowledged."""
    repaired: float | None = None
    """Seconds from healing (or from the fault, if it is for good) until every file had its copies; None if never."""
    settled: float | None = None
    """Seconds until nothing waited any more, and no bytes without a row were left."""
    left: list[str] = field(default_factory=list)
    """What kept it from settling."""
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the store kept its promises."""
        return bool(self.skipped) or not (self.lost or self.left or self.repaired is None or self.settled is None)


async def probe(scene: Scene, fault: Fault) -> Result:
    """Cause one fault under load, and check the result."""
    load, began = scene.load, time.monotonic()
    result = Result(fault.name)
    first_denial = len(load.denials)
    load.start()
    await load.some_more(CLIENTS * 2)
    usual = time.monotonic()
    await asyncio.sleep(BEFORE)
    hurt_at = time.monotonic()
    async with fault.hurt(scene):
        await asyncio.sleep(max(0.0, hurt_at + fault.seconds - time.monotonic()))
        load.check_clients()
    healed_at = time.monotonic()
    upto = await audit.highest_fid(scene.machines)
    repairing = asyncio.create_task(_until_repaired(scene, upto))
    await asyncio.sleep(AFTER)
    await load.stop()
    before, during = load.between(usual, hurt_at), load.between(hurt_at, healed_at)
    result.usual_rate, _, _ = _held(before, hurt_at - usual)
    result.rate, result.failed, result.slowest = _held(during, healed_at - hurt_at)
    result.repaired = await repairing
    if scene.when_repaired is not None:
        await scene.when_repaired()
    result.settled, result.left = await _until_settled(scene, healed_at)
    await _judge(scene, result, first_denial)
    result.notes += scene.notes
    scene.notes.clear()
    result.seconds = time.monotonic() - began
    return result


def _held(outcomes: Sequence[Outcome], seconds: float) -> tuple[float, float, float]:
    """Successful requests a second, the share of failures, the slowest response."""
    well = [each for each in outcomes if each.failure is None]
    share = 1 - len(well) / len(outcomes) if outcomes else 0.0
    return len(well) / seconds, share, max((each.ended - each.began for each in outcomes), default=0.0)


async def _until_repaired(scene: Scene, upto: int) -> float | None:
    began = time.monotonic()
    classes = await audit.wanted_copies(scene.machines)
    while time.monotonic() - began < REPAIR:
        found = await audit.survey(scene.machines)
        if not audit.short(scene.machines, found, upto, classes) - scene.exposed:
            return time.monotonic() - began
        await asyncio.sleep(0.5)
    return None


async def _until_settled(scene: Scene, healed_at: float) -> tuple[float | None, list[str]]:
    """Wait until no work and no leftovers exist; otherwise return them."""
    classes = await audit.wanted_copies(scene.machines)
    end = time.monotonic() + SETTLING
    while True:
        found = await audit.survey(scene.machines)
        found.waiting["file_to_replicate"] -= min(found.given_up, len(scene.exposed))
        lacking = audit.short(scene.machines, found, max(found.files, default=0), classes) - scene.exposed
        left = [*audit.orphans(found), *audit.unfinished(found), *(f"{key} lacks copies" for key in sorted(lacking))]
        left += [] if left else audit.miscounted(found)
        if not left:
            return time.monotonic() - healed_at, []
        if time.monotonic() > end:
            return None, left + await audit.deferred(scene.machines)
        await asyncio.sleep(0.5)


async def _judge(scene: Scene, result: Result, first_denial: int) -> None:
    load = scene.load
    found = await audit.survey(scene.machines)
    for key in scene.exposed:
        load.beliefs.pop(key, None)
    exposed_files = [fid for fid, file in found.files.items() if file.key in scene.exposed]
    for fid in exposed_files:
        del found.files[fid]
    result.stored = len(load.beliefs)
    result.lost += load.denials[first_denial:]
    result.lost += audit.lost(found, load)
    result.lost += audit.corrupt(found, load)
    result.lost += await load.read_all(load.beliefs)


async def probe_all(
    faults: Sequence[Fault], engine: str, directory: Path, report: Callable[[Result], None]
) -> list[Result]:
    """Cause one fault after another, on one cluster as long as it is intact."""
    results: list[Result] = []
    rng = random.Random()
    waiting = list(faults)
    while waiting:
        with tempfile.TemporaryDirectory(dir=directory, ignore_cleanup_errors=True) as place:
            async with machines(Path(place), engine) as cluster:
                load = Load(cluster, rng)
                while waiting:
                    fault = waiting.pop(0)
                    result = await _tried(cluster, load, fault)
                    results.append(result)
                    report(result)
                    if not result.good or fault.for_good:
                        break
    return results


async def _tried(cluster: Machines, load: Load, fault: Fault) -> Result:
    if fault.isolated and not isolation.isolated():
        return Result(fault.name, skipped="needs namespaces: run it as root")
    if fault.server and cluster.server is None:
        return Result(fault.name, skipped="the database is a file")
    return await probe(Scene(cluster, load), fault)
