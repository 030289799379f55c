"""On which way a file is assembled on a device."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.model.errors import FidConflict, NoDevices
from tawara.model.node_errors import OtherContent, SourceMissing
from tawara.store import file_assembler
from tawara.store.file_assembler import FileAssembler

UPLOAD = cast("Any", SimpleNamespace(fid=7))


class _Local:
    """Local devices that assemble, or fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.assembled: list[int] = []

    async def assemble(self, devid: int, *_: object) -> Any:
        self.assembled.append(devid)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(checksums=[])


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """The URLs to which files are assembled by storage nodes, and whether in place."""
    asked: list[tuple[str, bool]] = []

    async def store_ranges(_: object, url: str, *__: object, in_place: bool) -> None:
        asked.append((url, in_place))

    monkeypatch.setattr(file_assembler, "store_ranges", store_ranges)
    return asked


def _assembler(local: _Local | None) -> FileAssembler:
    async def is_local(devid: int) -> bool:
        return devid == 1

    nothing: Any = None
    view: Any = SimpleNamespace(current=SimpleNamespace(url=lambda devid, fid: f"url{devid}" if devid < 9 else None))
    writer: Any = SimpleNamespace(is_local=is_local)
    return FileAssembler(nothing, view, nothing, nothing, writer, nothing, local=cast("Any", local))


@pytest.mark.parametrize(
    ("devid", "in_place", "has_local", "here"),
    [(1, True, True, True), (2, True, True, False), (1, False, True, False), (1, True, False, False)],
)
async def test_a_local_device_is_written_directly(
    remote: list[tuple[str, bool]], devid: int, in_place: bool, has_local: bool, here: bool
) -> None:
    """Only a local device whose sources are on it is written directly; all others through their storage node."""
    local = _Local()
    made = _assembler(local if has_local else None)
    assert await made.store_on(devid, UPLOAD, [], None, in_place=in_place) is None
    assert (local.assembled, remote) == (([1], []) if here else ([], [(f"url{devid}", in_place)]))


async def test_errors_of_a_local_device(remote: list[tuple[str, bool]]) -> None:
    """A missing source is fetched from other devices; other content under the fid is a conflict."""
    await _assembler(_Local(SourceMissing())).store_on(1, UPLOAD, [], None, in_place=True)
    assert remote == [("url1", False)]
    with pytest.raises(FidConflict, match="dev1 holds other content under fid 7"):
        await _assembler(_Local(OtherContent())).store_on(1, UPLOAD, [], None, in_place=True)
    with pytest.raises(NoDevices):
        await _assembler(None).store_on(9, UPLOAD, [], None, in_place=False)
