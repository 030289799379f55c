"""An in-memory store: rows in dictionaries, fake storage nodes, observed devices."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from tawara.metadata import cluster as cluster_rows
from tawara.metadata import files
from tawara.metadata.contract import Metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeup, Wakeups
from tawara.model.cluster import (
    Cluster,
    Device,
    DeviceState,
    Domain,
    HashType,
    Host,
    HostState,
    Observation,
    Observed,
    StorageClass,
)
from tawara.model.errors import NoTempFile, PreconditionFailed, UnknownKey
from tawara.model.files import NewFile, StoredFile, Upload
from tawara.model.limits import Limits
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter, WriteRequest
from tawara.wire.http import Conditions

NOW = 1_700_000_000
DEFAULT = StorageClass(0, "default", 2)
ONE = StorageClass(1, "one", 1)
MD5 = StorageClass(2, "md5", 1, hashtype=HashType.MD5)
DOMAIN = Domain(1, "d", {each.classid: each for each in (DEFAULT, ONE, MD5)})


def cluster(devices: int = 3) -> Cluster:
    """A cluster with as many hosts as devices, all writeable."""
    return Cluster(
        domains={"d": DOMAIN},
        hosts={n: Host(n, f"host{n}", HostState.ALIVE, f"10.0.0.{n}", 7500) for n in range(1, devices + 1)},
        devices={n: Device(n, n, DeviceState.ALIVE, mb_total=1_000_000, mb_used=100) for n in range(1, devices + 1)},
        observed={n: Observation(Observed.WRITEABLE) for n in range(1, devices + 1)},
    )


class FakeClock:
    """A clock that stands still."""

    async def seconds(self) -> int:
        return NOW


class FakeMetadata:
    """Runs the queries of `metadata.files` that the store uses on dictionaries."""

    reads_at_once = True

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.files: dict[bytes, StoredFile] = {}
        self.uploads: dict[int, Upload] = {}
        self.closed: list[dict[str, Any]] = []
        """The arguments of each close_upload that took effect."""
        self.discarded: list[int] = []
        self.skipped: list[int] = []
        self.renewed: list[int] = []
        self.before_close: Callable[[], None] = lambda: None
        self.failure: Exception | None = None
        """What every write raises, if anything."""
        self.next_fid = 1
        self.cluster = cluster()
        self.cluster_reads = 0

    async def read(self, query: object, *args: Any, **kwargs: Any) -> Any:
        if query is cluster_rows.load:
            self.cluster_reads += 1
            if self.failure is not None:
                raise self.failure
            return self.cluster
        if query is files.find:
            return self.files.get(args[1])
        if query is files.find_upload:
            return self.uploads.get(args[0])
        assert query is files.list_files
        _, prefix, after, count = args
        keys = sorted(key for key in self.files if key.startswith(prefix) and key > (after or b""))
        return [self.files[key] for key in keys[:count]]

    async def write(self, change: object, *args: Any, **kwargs: Any) -> Any:
        if self.failure is not None:
            raise self.failure
        if change is files.open_upload:
            fid = kwargs["fid"] or self.next_fid
            self.next_fid = fid + 1
            self.uploads[fid] = Upload(fid, 1, kwargs["key"], kwargs["classid"], tuple(kwargs["devids"]), NOW)
            return fid
        if change is files.close_upload:
            return self._close(args[0], kwargs)
        if change is files.delete:
            return self._delete(args[1], kwargs["expected_fid"])
        if change is files.renew_upload:
            self.renewed.append(args[0])
            return None
        if self.uploads.pop(args[0], None) is None:
            raise NoTempFile
        {files.discard_upload: self.discarded, files.skip_fid: self.skipped}[cast(Any, change)].append(args[0])
        return None

    def _close(self, file: NewFile, kwargs: dict[str, Any]) -> int | None:
        self.before_close()
        old = self.files.get(file.key)
        if file.fid not in self.uploads:
            raise NoTempFile
        if kwargs["expected_fid"] not in (None, old.fid if old else 0):
            raise PreconditionFailed
        del self.uploads[file.fid]
        self.name(file.key, file.fid, file.length, tuple(file.devids))
        self.closed.append({"file": file, **kwargs})
        return old.fid if old else None

    def _delete(self, key: bytes, expected: int | None) -> int:
        if key not in self.files:
            raise UnknownKey
        if expected not in (None, self.files[key].fid):
            raise PreconditionFailed
        return self.files.pop(key).fid

    def name(self, key: bytes, fid: int, length: int = 5, devids: tuple[int, ...] = (1, 2)) -> None:
        """Let a key refer to a content."""
        self.files[key] = StoredFile(fid, 1, key, length, 0, len(devids), devids, NOW)


class FakeNodes:
    """Storage nodes that keep or refuse what they receive."""

    signer = None

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.failures: dict[int, Exception] = {}
        """By device: what a write to it raises, after the body."""

    async def put(
        self, url: str, source: bytes | AsyncIterator[bytes], *, length: int | None, md5: bytes | None = None
    ) -> None:
        body = source if isinstance(source, bytes) else b"".join([piece async for piece in source])
        devid = int(url.split("/dev")[1].split("/")[0])
        if devid in self.failures:
            raise self.failures[devid]
        self.bodies[url] = body


@dataclass
class FakeStore:
    """The parts of the store; needs a running event loop."""

    devices: int = 3
    metadata: FakeMetadata = field(default_factory=FakeMetadata)
    nodes: FakeNodes = field(default_factory=FakeNodes)
    wakeups: Wakeups = field(default_factory=Wakeups)

    def __post_init__(self) -> None:
        metadata = cast(Metadata, self.metadata)
        self.view = ClusterView(metadata)
        self.view.current = cluster(self.devices)
        self.view.observe(self.view.current.observed)
        self.store = FileStore(metadata, self.view, self.wakeups, random.Random(1))
        self.writer = FileWriter(metadata, self.view, self.nodes, self.store, local=None, limits=Limits())


async def notified(wakeup: Wakeup) -> bool:
    """Whether a worker was notified."""
    return await wakeup.wait(0)


def request(
    storage_class: StorageClass = DEFAULT,
    *,
    key: bytes = b"k",
    conditions: Conditions = Conditions(),  # noqa: B008 - a frozen value
    md5: bytes | None = None,
    length: int | None = None,
) -> WriteRequest:
    """A PUT of a key."""
    return WriteRequest(DOMAIN, key, storage_class, "text/plain", md5, conditions, length)


async def body(pieces: Iterable[bytes] = (b"he", b"llo")) -> AsyncIterator[bytes]:
    """A body in several pieces."""
    for piece in pieces:
        yield piece
