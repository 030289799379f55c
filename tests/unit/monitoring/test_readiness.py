"""When a process is ready."""

from __future__ import annotations

from tawara.monitoring.readiness import FRESH, Readiness


async def test_a_process_is_ready_between_its_start_and_its_stop() -> None:
    """A process that starts or stops is not ready; in between its checks decide, each named by its reason."""
    now = [0.0]
    answers = ["", "no answer"]

    async def first() -> str:
        return answers[0]

    async def second() -> str:
        if answers[1] == "crash":
            raise OSError("crash")
        return answers[1]

    readiness = Readiness(clock=lambda: now[0])
    readiness.add("first", first)
    readiness.add("database", second)
    assert await readiness.reasons() == ["starting"]
    readiness.started = True
    assert await readiness.reasons() == ["database: no answer"]
    assert await readiness.works("first")
    assert not await readiness.works("database")
    answers[1] = "crash"
    assert await readiness.reasons() == ["database: no answer"], "a result is used for a moment"
    now[0] += FRESH
    assert await readiness.reasons() == ["database: crash"]
    now[0] += FRESH
    answers[1] = ""
    assert await readiness.reasons() == []
    readiness.stopping = True
    assert await readiness.reasons() == ["stopping"]
