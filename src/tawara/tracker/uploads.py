"""Verbs about uploads: create_open and create_close (docs/mogilefs.md 3)."""

from __future__ import annotations

import re
import time

from tawara.model import errors
from tawara.model.cluster import Checksum
from tawara.model.files import Upload
from tawara.model.limits import DESTINATIONS
from tawara.tracker.context import LARGEST, TrackerContext, TrackerRequest
from tawara.wire.line import Args, Value
from tawara.wire.signatures import NodeRight, unsigned_url

_DEVIDS = re.compile(r"\d{1,10}(?:,\d{1,10}){0,99}", re.ASCII)


class _Profile:
    """Durations of the steps of a request, for `debug_profile=1`."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted
        self._since = time.perf_counter()
        self._points: list[tuple[str, float]] = []

    def point(self, name: str) -> None:
        """Record that the step `name` has ended."""
        if self._wanted:
            now = time.perf_counter()
            self._points.append((name, now - self._since))
            self._since = now

    def args(self) -> dict[str, Value]:
        """Return the fields of the reply; none without debug_profile."""
        if not self._wanted:
            return {}
        args: dict[str, Value] = {"profpoints": len(self._points)}
        for number, (name, seconds) in enumerate(self._points, 1):
            args[f"prof_{number}_name"] = name
            args[f"prof_{number}_time"] = f"{seconds:.3f}"
        return args


async def create_open(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Open an upload: return a new fid and the URLs to which the client may write, best first."""
    await tracker.store.chooser.wait_observed()
    profile = _Profile(call.flag("debug_profile"))
    cluster = tracker.cluster
    domain = call.domain(cluster)
    key = call.new_key()
    storage_class = domain.class_named(call.text("class"))
    if storage_class is None:
        raise errors.UnregClass
    fid = call.number("fid") or 0
    if not 0 <= fid <= LARGEST:
        raise errors.BadParams("The fid is out of range")
    many = call.flag("multi_dest")
    size = max(0, call.number("size") or 0) or None
    devids = tracker.store.chooser.offer(DESTINATIONS if many else 1, size, _devids(call, "preferred"))
    profile.point("choose_devices")
    upload = await tracker.store.uploads.open(domain, key, storage_class, devids, fid=fid)
    fid = upload.fid
    profile.point("open_upload")
    if not _is_on(cluster.settings.get("skip_mkcol")):
        await tracker.directories.make(cluster, fid, devids, tracker.nodes.make_directory)
        for devid in devids:
            profile.point(f"vivify_dir_on_dev{devid}")
    urls = [
        tracker.client_url(
            cluster.url(devid, fid, client_ip=call.client_ip, alternative=call.alternative), NodeRight.WRITE
        )
        for devid in devids
    ]
    if not many:
        return {"fid": fid, "devid": devids[0], "path": urls[0], **profile.args()}
    reply: dict[str, Value] = {"fid": fid, "dev_count": len(devids)}
    for number, (devid, url) in enumerate(zip(devids, urls, strict=True), 1):
        reply[f"devid_{number}"] = devid
        reply[f"path_{number}"] = url
    return reply | profile.args()


def _is_on(setting: str | None) -> bool:
    return (setting or "0") != "0"


async def create_close(tracker: TrackerContext, call: TrackerRequest) -> Args:
    """Close an upload: verify the bytes, then name them. A failed verification discards the upload."""
    cluster = tracker.cluster
    domain = call.domain(cluster)
    for name, missing in (("fid", errors.NoFid), ("devid", errors.NoDevid), ("path", errors.NoPath)):
        if not call.flag(name):
            raise missing
    checksum = _checksum(call)
    key = call.new_key()
    fid, devid = call.number("fid") or 0, call.number("devid") or 0
    path = call.text("path")
    if not 0 < fid <= LARGEST or unsigned_url(path) != cluster.url(
        devid, fid, client_ip=call.client_ip, alternative=call.alternative
    ):
        raise errors.BogusArgs
    upload = await tracker.store.uploads.find(fid)
    if upload is None or upload.dmid != domain.dmid:
        raise errors.NoTempFile
    uploads = tracker.store.uploads
    if not key and call.flag("conflict"):  # a device holds other content under this fid
        await uploads.skip_fid(fid, reason="the client was refused by the device", devid=devid)
        return {}
    if not key:  # an empty key: the client abandons the upload
        await uploads.discard(fid)
        return {}
    try:
        length = await _verified_length(tracker, call, upload, devid, checksum)
        await uploads.close(
            upload,
            key,
            length=length,
            written=(devid,),
            # Clients try the devices in the order in which they were offered: writes to those before this one failed.
            failed=upload.devids[: upload.devids.index(devid)],
            checksum=_wanted_checksum(tracker, upload, checksum),
            content_type=_content_type(call),
            mtime_ns=_mtime(call),
        )
    except (
        errors.InvalidDestdev,
        errors.SizeVerifyError,
        errors.SizeMismatch,
        errors.ChecksumMismatch,
        errors.FidExists,
    ):
        await uploads.discard_failed(fid)
        raise
    return {}


def _checksum(call: TrackerRequest) -> Checksum | None:
    text = call.text("checksum")
    if not text:
        return None
    checksum = Checksum.parse(text)
    if checksum is None:
        raise errors.InvalidChecksumFormat
    return checksum


def _devids(call: TrackerRequest, name: str) -> frozenset[int]:
    """Return the device ids of an argument such as `3,7`; not in MogileFS. Raises BadParams."""
    text = call.text(name)
    if not text:
        return frozenset()
    if not _DEVIDS.fullmatch(text):
        raise errors.BadParams(f"{name} is a list of at most 100 device ids, such as 3,7")
    return frozenset(map(int, text.split(",")))


def _content_type(call: TrackerRequest) -> str | None:
    """Return the media type of the client's file; not in MogileFS. Raises BadParams."""
    text = call.text("content_type")
    if not text:
        return None
    if len(text) > 255 or not text.isascii() or not text.isprintable():
        raise errors.BadParams("content_type has at most 255 printable ASCII characters")
    return text


def _mtime(call: TrackerRequest) -> int | None:
    """Return when the client's file was last changed, in unix nanoseconds; not in MogileFS. Raises BadParams."""
    mtime_ns = call.number("mtime_ns")
    if mtime_ns is not None and not -LARGEST <= mtime_ns <= LARGEST:
        raise errors.BadParams("mtime_ns is out of range")
    return mtime_ns


async def _verified_length(
    tracker: TrackerContext, call: TrackerRequest, upload: Upload, devid: int, checksum: Checksum | None
) -> int:
    """Return the length of the file on the device, after all checks that the client requested."""
    if devid not in upload.devids:
        offered = ",".join(map(str, upload.devids))
        raise errors.InvalidDestdev(f"File uploaded to invalid dest {devid}. Valid devices were: {offered}")
    path, expected = call.text("path"), call.text("size")
    # The tracker uses the host's main address, even if the client got the alternative one.
    url = tracker.cluster.url(devid, upload.fid) or path
    try:
        actual = await tracker.nodes.size(url)
        trouble = "missing" if actual is None else ""
        cause = ""
    except errors.NodeUnreachable as error:
        actual, trouble, cause = None, "cantreach", error.message
    if actual is None:
        raise errors.SizeVerifyError(f"Expected: {expected}; actual: 0 ({trouble}); path: {path}; error: {cause}")
    if call.flag("size"):
        size = call.number("size")
        if size is None or (size > -1 and size != actual):
            raise errors.SizeMismatch(f"Expected: {expected}; actual: {actual}; path: {path}")
    if checksum is not None and call.flag("checksumverify"):
        await _verify_checksum(tracker, upload.fid, url, path, checksum)
    return actual


async def _verify_checksum(tracker: TrackerContext, fid: int, url: str, path: str, checksum: Checksum) -> None:
    name = checksum.hashtype.wire
    try:
        digest = await tracker.nodes.digest(url, checksum.hashtype, side_channel_port=tracker.side_channel_port)
        actual = digest.hex() if digest is not None else "(missing)"
    except errors.NodeUnreachable:
        digest, actual = None, "(cantreach)"
    if digest != checksum.digest:
        raise errors.ChecksumMismatch(
            f"Expected: Checksum[f={fid};{name}={checksum.digest.hex()}]; actual: {name}:{actual}; path: {path}"
        )


def _wanted_checksum(tracker: TrackerContext, upload: Upload, checksum: Checksum | None) -> Checksum | None:
    """Return the client's checksum if the class stores checksums of that type."""
    storage_class = tracker.cluster.storage_class(upload.dmid, upload.classid)
    wanted = storage_class.hashtype if storage_class else None
    return checksum if checksum is not None and checksum.hashtype is wanted else None
