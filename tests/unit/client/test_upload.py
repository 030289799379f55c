"""One upload of the client, with fake trackers and nodes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest

from tawara.client import upload
from tawara.client.trackers import OutcomeUnknown, Trackers
from tawara.client.upload import OTHER_FIDS, BodySender, UploadSession
from tawara.client.upload_source import Data, UploadSource
from tawara.model import errors
from tawara.model.cluster import Checksum, HashType
from tawara.nodes.client import NodeClient

DATA = b"some bytes"
MD5 = Checksum(HashType.MD5, hashlib.md5(DATA).digest())
SHA1 = Checksum(HashType.SHA1, hashlib.sha1(DATA).digest())
LOST = OutcomeUnknown()


class _Trackers:
    """Offers devices 1 and 2 under fids 1, 2, …; closes and file_info have the results of the test, then succeed."""

    def __init__(self, *closes: Exception, fids: tuple[int | Exception, ...] = ()) -> None:
        self.closes, self.fids = list(closes), list(fids)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.opened = 0

    async def ask_for(self, read: Callable[[dict[str, bytes]], Any], command: str, args: dict[str, Any]) -> Any:
        self.requests.append((command, args))
        if command == "create_open":
            self.opened += 1
            paths = {b"path_1": b"http://h/1", b"path_2": b"http://h/2"}
            reply = {"fid": self.opened, "dev_count": 2, "devid_1": 1, "devid_2": 2}
            return read(
                {name: str(value).encode() for name, value in reply.items()}
                | {name.decode(): value for name, value in paths.items()}
            )
        fid = self.fids.pop(0)
        if isinstance(fid, Exception):
            raise fid
        return read({"domain": b"d", "key": b"k", "fid": b"%d" % fid, "length": b"10", "class": b"", "devcount": b"1"})

    async def ask(self, command: str, args: dict[str, Any], *, once: bool = False) -> None:
        assert once, "a close must not be repeated by itself"
        self.requests.append((command, args))
        if "key" in args and self.closes:
            raise self.closes.pop(0)

    def closed(self) -> list[dict[str, Any]]:
        return [args for command, args in self.requests if command == "create_close"]


class _Nodes:
    """Fails with the given errors in turn, then stores the body."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.puts: list[tuple[str, bytes, int | None, bytes | None]] = []
        self.streamed: list[bool] = []

    async def put(self, url: str, body: Any, *, length: int | None, md5: bytes | None) -> None:
        self.streamed.append(not isinstance(body, bytes))
        data = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        self.puts.append((url, data, length, md5))
        if self.failures:
            raise self.failures.pop(0)


def _session(
    trackers: _Trackers,
    nodes: _Nodes,
    data: Data = DATA,
    *,
    wanted: Checksum | HashType | None = None,
    mtime_ns: int | None = None,
) -> UploadSession:
    sender = BodySender(cast("NodeClient", nodes), UploadSource(data), wanted)
    return UploadSession(cast("Trackers", trackers), "d", b"k", "raw", sender, mtime_ns)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry a close without delay, with the normal number of attempts."""
    monkeypatch.setattr(upload, "PAUSES", (0.0,) * len(upload.PAUSES))


async def _once() -> AsyncIterator[bytes]:
    yield DATA


@pytest.mark.parametrize(
    ("wanted", "stored", "md5"),
    [(None, None, None), (HashType.MD5, MD5, MD5.digest), (MD5, MD5, MD5.digest), (HashType.SHA1, SHA1, None),
     (SHA1, SHA1, None)],
)  # fmt: skip
async def test_the_requests_of_an_upload(
    wanted: Checksum | HashType | None, stored: Checksum | None, md5: bytes | None
) -> None:
    """An upload opens, stores on the first device and closes with the stored size; the node gets an MD5 if known."""
    trackers, nodes = _Trackers(), _Nodes()
    result = await _session(trackers, nodes, wanted=wanted, mtime_ns=5).run()
    assert (result.fid, result.length, result.checksum) == (1, 10, stored)
    assert nodes.puts == [("http://h/1", DATA, 10, md5)]
    checksum = {} if stored is None else {"checksum": str(stored), "checksumverify": 1}
    closing = {"domain": "d", "key": b"k", "fid": 1, "devid": 1, "path": "http://h/1", "size": 10, "mtime_ns": 5}
    assert trackers.requests == [
        ("create_open", {"domain": "d", "key": b"k", "class": "raw", "multi_dest": 1, "size": 10}),
        ("create_close", closing | checksum),
    ]


async def test_an_upload_of_unknown_size_is_streamed() -> None:
    """Without a known size none is sent to the tracker; an MD5 given by the caller is sent to the node, no other is."""
    for wanted, md5 in ((MD5, MD5.digest), (HashType.MD5, None)):
        trackers, nodes = _Trackers(), _Nodes()
        await _session(trackers, nodes, _once(), wanted=wanted).run()
        assert "size" not in trackers.requests[0][1]
        assert nodes.puts == [("http://h/1", DATA, None, md5)]
        assert trackers.closed()[0]["size"] == 10
        assert "mtime_ns" not in trackers.closed()[0]
        assert nodes.streamed == [True]


async def test_a_checksum_mismatch_discards_the_upload() -> None:
    """Data with another checksum than the caller's raises ChecksumMismatch, and the upload is closed without a key."""
    trackers = _Trackers()
    with pytest.raises(errors.ChecksumMismatch):
        await _session(trackers, _Nodes(), b"other data", wanted=SHA1).run()
    assert trackers.closed() == [{"domain": "d", "fid": 1, "devid": 1, "path": "http://h/1"}]


async def test_the_next_device_is_tried() -> None:
    """When a device fails the next one is tried if the data can be read again; otherwise the upload is discarded."""
    trackers, nodes = _Trackers(), _Nodes(errors.NodeUnreachable("no"))
    await _session(trackers, nodes).run()
    assert [url for url, *_ in nodes.puts] == ["http://h/1", "http://h/2"]
    assert (trackers.closed()[0]["devid"], trackers.closed()[0]["path"]) == (2, "http://h/2")
    trackers, nodes = _Trackers(), _Nodes(errors.NodeUnreachable("no"))
    with pytest.raises(errors.NodeUnreachable, match=r"^no$"):
        await _session(trackers, nodes, _once()).run()
    assert len(nodes.puts) == 1
    assert "key" not in trackers.closed()[0]
    nodes = _Nodes(errors.NodeUnreachable("no"), errors.NodeUnreachable("neither"))
    with pytest.raises(errors.NodeUnreachable, match="no; neither"):
        await _session(_Trackers(), nodes).run()


async def test_a_fid_conflict_is_resolved_with_another_fid() -> None:
    """If the fid has other content, the upload is discarded without a deletion, and repeated with a few other fids."""
    trackers, nodes = _Trackers(), _Nodes(errors.FidConflict())
    assert (await _session(trackers, nodes).run()).fid == 2
    assert [(each["fid"], each.get("conflict")) for each in trackers.closed()] == [(1, 1), (2, None)]
    assert [url for url, *_ in nodes.puts] == ["http://h/1", "http://h/1"]
    nodes = _Nodes(*[errors.FidConflict()] * 99)
    with pytest.raises(errors.FidConflict):
        await _session(_Trackers(), nodes).run()
    assert len(nodes.puts) == OTHER_FIDS + 1
    nodes = _Nodes(*[errors.FidConflict()] * 99)
    with pytest.raises(errors.FidConflict):
        await _session(_Trackers(), nodes, _once()).run()
    assert len(nodes.puts) == 1


@pytest.mark.parametrize(
    ("closes", "fids", "requests"),
    [
        ([LOST], [1], 1),  # it was closed
        ([LOST], [errors.UnknownKey()], 2),  # it was not, and is closed now
        ([LOST], [9], 2),  # the key still has older content
        ([errors.Db()], [errors.TrackerUnreachable(), errors.Busy(), 1], 1),
        ([LOST, errors.NoTempFile()], [9, 1], 2),  # closed by the request whose reply was lost, visible a little later
        ([LOST, errors.FidExists()], [9], 2),
        ([LOST, LOST, errors.Db()], [9, 9, 9], 4),
    ],
)
async def test_a_lost_reply_to_the_close_is_resolved(closes: list[Exception], fids: list[Any], requests: int) -> None:
    """Whether or not the request with the lost reply succeeded, the file is stored once, and success is reported."""
    trackers = _Trackers(*closes, fids=tuple(fids))
    assert (await _session(trackers, _Nodes()).run()).fid == 1
    assert len(trackers.closed()) == requests
    assert not trackers.fids


async def test_a_close_without_a_known_result_is_an_error() -> None:
    """If an upload is neither closed nor open, or the tracker stays silent, the last error is raised."""
    trackers = _Trackers(LOST, errors.NoTempFile(), fids=(9,) * 99)
    with pytest.raises(OutcomeUnknown):
        await _session(trackers, _Nodes()).run()
    assert len(trackers.closed()) == 2
    assert len(trackers.fids) == 99 - len(upload.PAUSES)
    silent = errors.TrackerUnreachable()
    with pytest.raises(errors.TrackerUnreachable):
        await _session(_Trackers(silent, fids=(silent,) * 99), _Nodes()).run()


async def test_a_refused_close_is_an_error_at_once() -> None:
    """A close that the tracker refuses is not repeated, and the key is not looked up."""
    trackers = _Trackers(errors.UnregDomain())
    with pytest.raises(errors.UnregDomain):
        await _session(trackers, _Nodes()).run()
    assert len(trackers.requests) == 2


async def test_a_failed_discard_keeps_the_error() -> None:
    """If the tracker also fails when the upload is discarded, the original error is raised."""

    class Failing(_Trackers):
        async def ask(self, command: str, args: dict[str, Any], *, once: bool = False) -> None:
            raise errors.TrackerUnreachable

    with pytest.raises(errors.ChecksumMismatch):
        await _session(Failing(), _Nodes(), b"other data", wanted=SHA1).run()
