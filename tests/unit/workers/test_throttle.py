"""Throttles: the rate of a setting, for all workers of a process that share it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tawara.metadata.wakeups import Wakeups
from tawara.workers import service, throttle
from tawara.workers.service import Workers
from tawara.workers.throttle import BURST, Throttle
from tests.unit.workers.workers_fixture import WorkersFixture, workers_fixture


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of all pauses, which are the only time that passes."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(throttle, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(throttle, "time", SimpleNamespace(monotonic=lambda: 1000.0 + sum(pauses)))
    return pauses


def view_with(**settings: str) -> Any:
    return SimpleNamespace(current=SimpleNamespace(settings=settings))


async def test_the_rate_is_kept(slept: list[float]) -> None:
    """Ten pieces of a second's worth each take ten seconds, less the burst and the piece that needs no wait."""
    limited = Throttle(view_with(tawara_rate_rebalance="1m"), "rebalance")
    for _ in range(10):
        await limited.spend(1024 * 1024)
    assert sum(slept) == pytest.approx(9 - BURST)


@pytest.mark.parametrize("rate", [{}, {"tawara_rate_rebalance": "0"}, {"tawara_rate_fsck": "1"}])
async def test_without_a_rate_nothing_waits(slept: list[float], rate: dict[str, str]) -> None:
    """A rate that is not set, or 0, or of another kind of work, has no effect."""
    await Throttle(view_with(**rate), "rebalance").spend(10**12)
    assert slept == []


async def test_rebalance_and_drain_share_the_rate_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rebalance and drain together move no more than `tawara_rate_rebalance`; another process has its own rate."""
    made: dict[str, list[Any]] = {"RebalanceFiles": [], "DrainDevices": []}
    for name, workers in made.items():
        original = getattr(service, name)

        def create(*args: Any, _original: Any = original, _workers: list[Any] = workers, **options: Any) -> Any:
            _workers.append(_original(*args, **options))
            return _workers[-1]

        monkeypatch.setattr(service, name, create)
    async with workers_fixture(tmp_path, {"h1": [1]}, look=False) as fixture:
        for _process in range(2):
            _workers_of(fixture)
        one, other = ([worker._copier._throttle for worker in each] for each in zip(*made.values(), strict=True))
        assert one[0] is one[1]
        assert other[0] is other[1]
        assert one[0] is not other[0]


def _workers_of(fixture: WorkersFixture) -> Workers:
    return Workers(fixture.metadata, fixture.view, fixture.nodes, Wakeups())
