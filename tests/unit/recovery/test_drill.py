"""Contents on the devices that neither journals nor database know."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.model.errors import NodeUnreachable
from tawara.recovery import drill
from tawara.recovery.drill import Drill


def _source(devid: int, sizes: dict[int, int]) -> Any:
    async def size(fid: int) -> int | None:
        if sizes.get(fid) == -1:
            raise NodeUnreachable
        return sizes.get(fid)

    return SimpleNamespace(devid=devid, size=size)


async def test_unknown_contents_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the contents without a name, those that the database does not know and that still exist are returned."""
    monkeypatch.setattr(drill, "PAGE", 2)
    asked: list[list[int]] = []

    async def read(_: Callable[..., Any], fids: list[int]) -> set[int]:
        asked.append(list(fids))
        return set(fids) - {5}  # fid 5 has a row

    sources = [_source(1, {1: 10, 2: 0, 3: -1, 5: 10}), _source(2, {1: 10})]
    made = Drill(cast("Any", SimpleNamespace(read=read)), sources, look=True)
    made._unnamed = {1: [1, 2], 2: [1, 2], 3: [1], 4: [2], 5: [1]}
    assert await made.find_unknown_contents() == {1: [1, 2], 2: [1]}
    assert asked == [[1, 2], [3, 4], [5]]
