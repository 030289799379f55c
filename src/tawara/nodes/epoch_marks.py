"""Reads and writes a device's epoch mark through its storage node."""

from __future__ import annotations

from tawara.model.epoch import Epoch
from tawara.model.errors import NoSource
from tawara.nodes.client import NodeClient
from tawara.wire import epoch


async def read_mark(nodes: NodeClient, origin: str, devid: int) -> Epoch | None:
    """Return the last epoch in which the device was written to; None without a mark. Raises NodeUnreachable."""
    try:
        return epoch.parse(await nodes.read(f"{origin}/dev{devid}/{epoch.FILE}", limit=epoch.LARGEST))
    except NoSource:
        return None


async def write_mark(nodes: NodeClient, origin: str, devid: int, mark: Epoch) -> None:
    """Store `mark` on the device. Raises NodeUnreachable."""
    body = epoch.render(mark)
    await nodes.put(f"{origin}/dev{devid}/{epoch.FILE}", body, length=len(body))
