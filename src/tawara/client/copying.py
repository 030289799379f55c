"""Copies a stored file: on the device where it lies if possible, else by reading it and sending the bytes."""

from __future__ import annotations

from tawara.client.reading import Located
from tawara.client.replies import Destination
from tawara.model import errors
from tawara.model.assembling import ByteRange
from tawara.model.cluster import Checksum
from tawara.nodes.client import NodeClient
from tawara.nodes.source_ranges import SourceRange, store_ranges


class CopySender:
    """Brings the bytes of a stored file to another fid; see client.upload.Sender.

    A checksum that the store has of the source is that of the copy: on a device that holds the source nothing is read.
    """

    replayable = True

    def __init__(self, nodes: NodeClient, located: Located) -> None:
        self._nodes, self._info, self._urls = nodes, located.info, located.urls
        self.preferred = located.info.devids
        self.verify = True
        self.size = located.info.length
        self.sent = 0

    async def send(self, destination: Destination) -> Checksum | None:
        """See Sender. Raises NoSource if no replica of the source can be read, and ChecksumMismatch."""
        info = self._info
        whole = ByteRange(info.fid, 0, info.length)
        if destination.devid in info.devids:
            try:
                await self._nodes.assemble(destination.url, [whole])
            except errors.CannotAssemble:
                pass  # a node of another make, or the device has lost the source
            else:
                self.verify, self.sent = False, info.length
                return info.checksum
        source = SourceRange(whole, info.length, self._urls)
        hashtype = info.checksum.hashtype if info.checksum else None
        made = await store_ranges(self._nodes, destination.url, [source], hashtype, in_place=False)
        if made != info.checksum:
            raise errors.ChecksumMismatch(f"{info.key!r} has the checksum {made}, stored is {info.checksum}")
        self.verify, self.sent = True, info.length
        return made
