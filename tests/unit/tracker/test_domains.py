"""Classes: which arguments their verbs accept."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.model import errors
from tawara.model.cluster import HashType
from tawara.model.limits import MOST_COPIES
from tawara.tracker.context import TrackerContext, TrackerRequest
from tawara.tracker.domains import create_class, update_class


class _Tracker:
    """A tracker's components that record what is written."""

    def __init__(self, *, beside_mogilefsd: bool = False) -> None:
        self.beside_mogilefsd = beside_mogilefsd
        self.metadata = SimpleNamespace(write=self._write)
        self.view = SimpleNamespace(renew=self._renew)
        self.written: list[dict[str, Any]] = []
        self.renewed = 0

    async def _write(self, _query: object, _domain: str, _name: str, **fields: Any) -> None:
        self.written.append(fields)

    async def _renew(self) -> None:
        self.renewed += 1

    async def create(self, **arguments: bytes) -> dict[str, Any]:
        """Create a class, of two copies unless these arguments say otherwise; return what is written."""
        await create_class(*self._call(arguments))
        return self.written[-1]

    async def update(self, **arguments: bytes) -> dict[str, Any]:
        """Change a class in the same way; return what is written."""
        await update_class(*self._call(arguments))
        return self.written[-1]

    def _call(self, arguments: dict[str, bytes]) -> tuple[TrackerContext, TrackerRequest]:
        known = {"domain": b"d", "class": b"c", "mindevcount": b"2"}
        return cast("TrackerContext", self), TrackerRequest({**known, **arguments})


@pytest.mark.parametrize(("count", "accepted"), [(0, False), (1, True), (MOST_COPIES, True), (MOST_COPIES + 1, False)])
async def test_the_number_of_copies(count: int, accepted: bool) -> None:
    """A class has from one copy up to the largest number that a row can count."""
    tracker = _Tracker()
    if accepted:
        assert (await tracker.create(mindevcount=b"%d" % count))["mindevcount"] == count
        assert tracker.renewed == 1
    else:
        with pytest.raises(errors.InvalidMindevcount):
            await tracker.create(mindevcount=b"%d" % count)
        assert tracker.written == []


async def test_the_length_of_a_policy() -> None:
    """A policy of 255 characters, as many as the column holds, is accepted, and one of 256 is not."""
    policy = b"MultipleHosts(2" + b" " * 239 + b")"
    assert len(policy) == 255
    assert (await _Tracker().create(replpolicy=policy))["replpolicy"] == policy.decode()
    with pytest.raises(errors.InvalidReplpolicy, match="255"):
        await _Tracker().create(replpolicy=policy.replace(b")", b" )"))
    assert (await _Tracker().create(replpolicy=b""))["replpolicy"] is None


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ({}, (None, False)),
        ({"hashtype": b""}, (None, False)),
        ({"hashtype": b"NONE"}, (None, True)),
        ({"hashtype": b"SHA-1"}, (HashType.SHA1, False)),
        ({"hashtype": b"CRC64NVME"}, (HashType.CRC64NVME, False)),
    ],
)
async def test_the_hash_type(text: dict[str, bytes], written: tuple[HashType | None, bool]) -> None:
    """No hash type keeps the current one, NONE removes it, a name sets it; an unknown name is refused."""
    fields = await _Tracker().update(**text)
    assert (fields["hashtype"], fields["clear_hashtype"]) == written
    assert (await _Tracker().create(**text))["hashtype"] is written[0]
    with pytest.raises(errors.InvalidHashtype):
        await _Tracker().update(hashtype=b"CRC16")


@pytest.mark.parametrize("name", [b"CRC32C", b"CRC64NVME"])
async def test_a_checksum_that_mogilefsd_does_not_know(name: bytes) -> None:
    """While a mogilefsd uses the same database, a class cannot have a checksum that mogilefsd cannot read."""
    tracker = _Tracker(beside_mogilefsd=True)
    for verb in (tracker.create, tracker.update):
        with pytest.raises(errors.InvalidHashtype, match=f"does not know the checksum {name.decode()}") as refused:
            await verb(hashtype=name)
        assert "store.beside_mogilefsd" in (refused.value.hint or "")
    assert tracker.written == []
    assert (await tracker.update(hashtype=b"MD5"))["hashtype"] is HashType.MD5
    assert (await tracker.create(hashtype=b"SHA-1"))["hashtype"] is HashType.SHA1
