"""Keys are bytes: stored, compared and sorted byte by byte, on every engine."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tawara.metadata import files
from tawara.metadata.contract import Metadata, Transaction
from tawara.metadata.dialect import successor
from tawara.model.files import NewFile

FRESH_DMID = itertools.count(1)
# Each example has a domain of its own, so that they may share the fixture's database.
several = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

tricky = st.sampled_from([b"", b"\x00", b"\xff", b"%", b"_", b"\\", b"'", b" ", b"A", b"a", b"\xc3\xa9", b"\x7f\x80"])
keys = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.lists(tricky, min_size=1, max_size=8).map(b"".join).filter(bool),
    st.binary(min_size=1, max_size=3).map(lambda seed: (seed * 1024)[:1024]),
)


async def store(tx: Transaction, dmid: int, names: list[bytes]) -> dict[bytes, int]:
    stored = {}
    for name in names:
        stored[name] = await files.open_upload(tx, dmid=dmid, key=name, classid=0, devids=(1,), now=1)
        await files.close_upload(
            tx, NewFile(fid=stored[name], dmid=dmid, key=name, classid=0, length=1, devids=(1,)), now=1
        )
    return stored


@several
@given(names=st.lists(keys, min_size=1, max_size=8, unique=True))
async def test_a_key_round_trips(metadata: Metadata, names: list[bytes]) -> None:
    """Each key refers to its own file and no other, whatever its bytes, and is returned unchanged."""
    dmid = next(FRESH_DMID)
    stored = await metadata.write(store, dmid, names)
    for name, fid in stored.items():
        found = await metadata.read(files.find, dmid, name)
        assert found is not None
        assert (found.fid, found.key) == (fid, name)
        by_fid = await metadata.read(files.find_fid, fid)
        assert by_fid is not None
        assert by_fid.key == name


@several
@given(names=st.lists(keys, min_size=1, max_size=8, unique=True), other=keys)
async def test_an_unknown_key_is_not_found(metadata: Metadata, names: list[bytes], other: bytes) -> None:
    """A key that was not stored is not found, however similar it is to stored ones."""
    dmid = next(FRESH_DMID)
    await metadata.write(store, dmid, names)
    if other not in names:
        assert await metadata.read(files.find, dmid, other) is None
    assert await metadata.read(files.find, dmid + 1_000_000, names[0]) is None


@several
@given(
    names=st.lists(keys, max_size=12, unique=True),
    prefix=st.one_of(st.just(b""), tricky, st.binary(max_size=2)),
    after=st.one_of(st.none(), keys),
    limit=st.integers(1, 13),
)
async def test_keys_are_listed_in_byte_order(
    metadata: Metadata, names: list[bytes], prefix: bytes, after: bytes | None, limit: int
) -> None:
    """list_keys and list_files equal sorting and comparing the bytes; a prefix has no wildcards."""
    dmid = next(FRESH_DMID)
    await metadata.write(store, dmid, names)
    right = sorted(name for name in names if name.startswith(prefix) and (after is None or name > after))[:limit]
    assert await metadata.read(files.list_keys, dmid, prefix, after, limit) == right
    assert [each.key for each in await metadata.read(files.list_files, dmid, prefix, after, limit)] == right


@pytest.mark.parametrize("key", [b"a/\xff\xff", b"\x00", b"k" * 1024, bytes(range(256)) * 4, "俵".encode() * 341])
async def test_an_upload_keeps_its_key(metadata: Metadata, key: bytes) -> None:
    """The key of an upload is returned byte for byte."""
    fid = await metadata.write(files.open_upload, dmid=1, key=key, classid=0, devids=(1,), now=1)
    upload = await metadata.read(files.find_upload, fid)
    assert upload is not None
    assert upload.key == key


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff\xff", None), (b"", None), (b"\x00", b"\x01")]
)
def test_the_successor_of_a_prefix(prefix: bytes, end: bytes | None) -> None:
    """It is the least byte string greater than all that begin with the prefix."""
    assert successor(prefix) == end
