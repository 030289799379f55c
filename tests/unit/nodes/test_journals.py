"""Reading the devices' journals while some devices stop responding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest

from tawara.model.errors import NodeUnreachable, NoSource, UsageError
from tawara.model.fid import COUNTED, HIGHEST
from tawara.model.journal_records import FileMetadata, JournalRecord, RecordState
from tawara.nodes import journals
from tawara.nodes.client import NodeClient
from tawara.recovery import device_sources
from tawara.recovery.device_sources import DeviceSource
from tawara.recovery.journal_collector import JournalCollector
from tawara.wire import journal
from tawara.wire.journal import Head

FACTS = FileMetadata(1, b"k", 0, 5)


def device(devid: int, sizes: Mapping[int, int], *records: JournalRecord, falls_silent: str = "") -> DeviceSource:
    """A device with one journal segment, whose storage node lists nothing, and may stop responding."""
    head = Head(tawara="names", device=devid, generation=1, segment=1, complete=True)
    files = {journal.segment_path(0, 1): journal.pack(head, [journal.encode_record(record) for record in records])}

    async def fetch(path: str) -> bytes | None:
        if falls_silent == "names" and path == journal.segment_path(1, 1):
            raise NodeUnreachable("gone")
        return files.get(path)

    async def size(fid: int) -> int | None:
        if falls_silent == "sizes":
            raise NodeUnreachable("gone")
        return sizes.get(fid)

    async def listing() -> AsyncIterator[dict[int, int]]:
        parts: list[dict[int, int]] = []
        for part in parts:
            yield part
        raise NoSource("no list")

    return DeviceSource(devid, f"dev{devid}", fetch, size, listing)


async def gather(
    *sources: DeviceSource,
) -> tuple[JournalCollector, dict[int, tuple[int, ...]], dict[int, dict[int, int]]]:
    """The collector; fid -> devids of the files; devid -> fid -> bytes."""
    with JournalCollector(sources) as gathering:
        await gathering.read_names()
        await gathering.list_bytes()
        (fid_range,) = [each async for each in gathering.ranges()]
    files = {file.fid: file.devids for file in fid_range.evidence.files}
    return gathering, files, {devid: dict(sizes) for devid, sizes in fid_range.sizes.items()}


async def test_a_node_that_fails_while_journals_are_read() -> None:
    """Nothing of its journal counts, since the rest is unknown; the other devices count."""
    one = device(1, {7: 5}, JournalRecord(1, 7, RecordState.HERE, FACTS))
    two = device(2, {7: 5}, JournalRecord(2, 7, RecordState.GONE), falls_silent="names")
    gathering, files, sizes = await gather(one, two)
    assert (list(gathering.silent), files, sizes) == ([2], {7: (1,)}, {1: {7: 5}})
    assert gathering.unlisted == [1]


async def test_a_node_that_fails_while_files_are_listed() -> None:
    """The failed device is reported with the reason; the journals of the others are read."""
    record = JournalRecord(1, 7, RecordState.HERE, FACTS)
    gathering, files, sizes = await gather(device(1, {7: 5}, record), device(2, {}, record, falls_silent="sizes"))
    assert (gathering.silent, files, sizes) == ({2: "gone"}, {7: (1, 2)}, {1: {7: 5}})


async def test_a_distant_segment_number_does_not_stall_a_rebuild() -> None:
    """An active segment that names a segment thousands beyond the last one is damaged; the search for it ends."""
    head = Head(tawara="names", device=1, generation=1, segment=COUNTED, active_segment=1)
    files = {
        journal.active_segment_path(0): journal.pack(
            head, [journal.encode_record(JournalRecord(1, 7, RecordState.HERE, FACTS))]
        )
    }
    asked: list[str] = []

    async def fetch(path: str) -> bytes | None:
        asked.append(path)
        return files.get(path)

    async def keep(head: Head, records: Sequence[tuple[JournalRecord, bytes]]) -> None:
        pass

    found = await journals.read_journal(fetch, 1, keep)
    assert found.damaged
    assert len(asked) < 2 * journals.LARGEST_GAP


async def test_a_segment_at_the_wrong_place_is_damaged() -> None:
    """A segment is valid only in the place of its number."""
    head = Head(tawara="names", device=1, generation=1, segment=9)
    files = {journal.segment_path(0, 1): journal.pack(head, [])}

    async def fetch(path: str) -> bytes | None:
        return files.get(path)

    async def keep(head: Head, records: Sequence[tuple[JournalRecord, bytes]]) -> None:
        raise AssertionError("it does not count")

    assert (await journals.read_journal(fetch, 1, keep)).damaged


async def test_fids_beyond_the_counter_are_ignored_by_it() -> None:
    """A file or record with a fid beyond the counter's range is found, but does not advance the counter."""
    named = JournalRecord(1, HIGHEST - 1, RecordState.HERE, FACTS)
    gathering, files, _ = await gather(device(1, {HIGHEST - 1: 5}, named, JournalRecord(2, 8, RecordState.GONE)))
    assert files == {HIGHEST - 1: (1,)}
    with JournalCollector([]) as again:
        again._spool.add_sizes(1, {7: 5, HIGHEST: 5})
        assert again.highest_fid == 7
    assert gathering.sources


@pytest.mark.parametrize("text", ["http://node:7500/dev2147483648", "dev9999999999"])
async def test_invalid_device_numbers(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device number that fits in no column is refused on the command line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dev9999999999").mkdir()
    async with NodeClient() as nodes:
        with pytest.raises(UsageError, match="is no device"):
            device_sources.parse(text, nodes)
