"""Reading what devices tell, some of which fall silent in the middle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from tawara.client.gathering import Gathering
from tawara.client.sources import Source
from tawara.model.errors import NodeUnreachable, NoSource
from tawara.model.names import Facts, Record, Standing
from tawara.wire import journal
from tawara.wire.journal import Head

FACTS = Facts(1, b"k", 0, 5)


def device(devid: int, sizes: Mapping[int, int], *records: Record, falls_silent: str = "") -> Source:
    """A device with one segment of names, whose storage node lists nothing, and may fall silent."""
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

    return Source(devid, f"dev{devid}", fetch, size, listing)


async def gather(*sources: Source) -> tuple[Gathering, dict[int, tuple[int, ...]], dict[int, dict[int, int]]]:
    """How it went, fid -> devids of the files, and devid -> fid -> bytes."""
    with Gathering(sources) as gathering:
        await gathering.read_names()
        await gathering.list_bytes()
        (stretch,) = [each async for each in gathering.stretches()]
    files = {file.fid: file.devids for file in stretch.evidence.files}
    return gathering, files, {devid: dict(sizes) for devid, sizes in stretch.sizes.items()}


async def test_a_node_that_falls_silent_while_names_are_read() -> None:
    """Nothing that it told counts, for what it had still to tell is not known; the others count."""
    one = device(1, {7: 5}, Record(1, 7, Standing.HERE, FACTS))
    two = device(2, {7: 5}, Record(2, 7, Standing.GONE), falls_silent="names")
    gathering, files, sizes = await gather(one, two)
    assert (list(gathering.silent), files, sizes) == ([2], {7: (1,)}, {1: {7: 5}})
    assert gathering.unlisted == [1]


async def test_a_node_that_falls_silent_while_bytes_are_looked_for() -> None:
    """It is told, with the reason; what the others have is known."""
    record = Record(1, 7, Standing.HERE, FACTS)
    gathering, files, sizes = await gather(device(1, {7: 5}, record), device(2, {}, record, falls_silent="sizes"))
    assert (gathering.silent, files, sizes) == ({2: "gone"}, {7: (1, 2)}, {1: {7: 5}})
