"""Uploads a file: create_open, PUT to one of the offered devices, create_close; resolves a lost reply to the close."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tawara.client.replies import Destination, FileInfo, Stored, read_opened
from tawara.client.trackers import OutcomeUnknown, Trackers
from tawara.client.upload_source import UploadSource
from tawara.model import errors
from tawara.model.cluster import Checksum, HashType
from tawara.nodes.client import NodeClient
from tawara.wire.line import Value

PAUSES: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds between attempts to determine the result of a close."""

_PREFERRED: Final = 100
"""Most devices to name to a tracker as preferred."""
OTHER_FIDS: Final = 3
"""Most repetitions of an upload with a new fid, after a device was found to hold other content under the fid."""


class Sender(Protocol):
    """Brings the bytes of one file to a device."""

    @property
    def preferred(self) -> Sequence[int]:
        """Devices that the tracker should offer first, if it can."""
        ...

    @property
    def verify(self) -> bool:
        """Whether the tracker has to compare the bytes on the device with the checksum."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes that will be sent; None if unknown."""
        ...

    @property
    def sent(self) -> int:
        """Bytes of the file that was stored."""
        ...

    @property
    def replayable(self) -> bool:
        """Whether the bytes can be sent again."""
        ...

    async def send(self, destination: Destination) -> Checksum | None:
        """Store the bytes there, durably; return their checksum, if known. Raises NodeUnreachable, FidConflict."""
        ...


class BodySender:
    """Sends the data of the caller."""

    preferred: Sequence[int] = ()
    verify = True

    def __init__(self, nodes: NodeClient, source: UploadSource, wanted: Checksum | HashType | None) -> None:
        """`wanted`: the checksum to verify, or the algorithm to compute and verify."""
        self._nodes, self._source, self._wanted = nodes, source, wanted

    @property
    def size(self) -> int | None:
        """See Sender."""
        return self._source.size

    @property
    def sent(self) -> int:
        """See Sender."""
        return self._source.sent

    @property
    def replayable(self) -> bool:
        """See Sender."""
        return self._source.replayable

    async def send(self, destination: Destination) -> Checksum | None:
        """See Sender. Raises ChecksumMismatch if the data does not have the checksum that was announced."""
        kind = self._wanted.hashtype if isinstance(self._wanted, Checksum) else self._wanted
        hasher = self._source.hashing(kind) if kind is not None else None
        announced = self._wanted if isinstance(self._wanted, Checksum) else None
        small = self._source.small()
        if small is not None:
            small = b"".join([chunk async for chunk in self._source.chunks()])
        md5 = announced.digest if announced is not None and announced.hashtype is HashType.MD5 else None
        if md5 is None and small is not None and hasher is not None and kind is HashType.MD5:
            md5 = hasher.digest()
        await self._nodes.put(
            destination.url,
            small if small is not None else self._source.chunks(),
            length=self._source.size,
            md5=md5,
        )
        if hasher is None or kind is None:
            return None
        checksum = Checksum(kind, hasher.digest())
        if announced is not None and checksum != announced:
            raise errors.ChecksumMismatch(f"The data has the checksum {checksum}, not {announced}")
        return checksum


@dataclass(frozen=True, slots=True)
class UploadSession:
    """One upload, from create_open to create_close."""

    trackers: Trackers
    domain: str
    key: bytes
    storage_class: str
    sender: Sender
    mtime_ns: int | None = None
    """Modification time of the source, unix nanoseconds."""
    content_type: str | None = None
    """Media type of the file."""

    async def run(self) -> Stored:
        """Store the file under its key. Raises what `AsyncClient.put` raises."""
        for _ in range(OTHER_FIDS):
            try:
                return await self._run_once()
            except errors.FidConflict:
                if not self.sender.replayable:
                    raise
        return await self._run_once()

    async def _run_once(self) -> Stored:
        args: dict[str, Value] = {"domain": self.domain, "key": self.key, "class": self.storage_class, "multi_dest": 1}
        if self.sender.size is not None:
            args["size"] = self.sender.size
        if self.sender.preferred:  # like the media type not in MogileFS, whose trackers ignore it
            args["preferred"] = ",".join(map(str, self.sender.preferred[:_PREFERRED]))
        fid, destinations = await self.trackers.ask_for(read_opened, "create_open", args)
        try:
            destination, checksum = await self._send(destinations)
        except errors.FidConflict:
            await self._abandon(fid, destinations[0], conflict=True)
            raise
        except BaseException:
            # A task being cancelled can still send a request: discard the upload now instead of leaving it to expire.
            await self._abandon(fid, destinations[0])
            raise
        length = self.sender.sent
        closing: dict[str, Value] = {
            "domain": self.domain,
            "key": self.key,
            "fid": fid,
            "devid": destination.devid,
            "path": destination.url,
            "size": length,
        }
        if checksum is not None:
            closing |= {"checksum": str(checksum), "checksumverify": int(self.sender.verify)}
        if self.mtime_ns is not None:
            closing["mtime_ns"] = self.mtime_ns
        if self.content_type is not None:
            closing["content_type"] = self.content_type
        await self._close(fid, closing)
        return Stored(fid, length, checksum)

    async def _send(self, destinations: list[Destination]) -> tuple[Destination, Checksum | None]:
        """Send the bytes to the first device that accepts them; tries others only if they can be sent again."""
        failures: list[str] = []
        for destination in destinations:
            if not self.sender.replayable:
                break
            try:
                return destination, await self.sender.send(destination)
            except errors.FidConflict:
                raise  # the fid is in conflict on every device
            except errors.NodeUnreachable as error:
                failures.append(error.message)
        raise errors.NodeUnreachable("; ".join(failures))

    async def _close(self, fid: int, args: dict[str, Value]) -> None:
        """Send create_close, and resolve a lost reply.

        After a lost reply the key is read: if it has this upload's fid, the file is stored. If not, the request may not
        have arrived; repeating it is safe, because an upload is closed at most once. Or it arrived, and another client
        has replaced or deleted the file since; this is indistinguishable from a failed close, so it is an error.
        """
        unknown: errors.UnavailableError
        try:
            await self.trackers.ask("create_close", args, once=True)
        except (OutcomeUnknown, errors.TrackerUnreachable, errors.Db, errors.Busy) as error:
            unknown = error
        else:
            return
        settled = False
        for pause in PAUSES:
            await asyncio.sleep(pause)
            try:
                if await self._fid_of_key() == fid:
                    return
                if not settled:
                    await self.trackers.ask("create_close", args, once=True)
                    return
            except errors.NoTempFile:
                settled = True  # if by the lost request, the key shows it now or very soon
            except errors.FidExists:
                return
            except OutcomeUnknown as error:
                unknown = error
            except (errors.TrackerUnreachable, errors.Db, errors.Busy):
                continue
        raise unknown

    async def _fid_of_key(self) -> int | None:
        try:
            info = await self.trackers.ask_for(FileInfo.read, "file_info", {"domain": self.domain, "key": self.key})
        except errors.UnknownKey:
            return None
        return info.fid

    async def _abandon(self, fid: int, destination: Destination, *, conflict: bool = False) -> None:
        """Discard the upload by sending create_close without a key.

        `conflict`: a device holds other content under the fid, so the tracker must not delete anything.
        """
        args: dict[str, Value] = {
            "domain": self.domain,
            "fid": fid,
            "devid": destination.devid,
            "path": destination.url,
        }
        if conflict:
            args["conflict"] = 1
        try:
            async with asyncio.timeout(2.0):
                await self.trackers.ask("create_close", args, once=True)
        except (TimeoutError, errors.TawaraError):
            pass  # the tracker removes uploads that are never closed
