"""Reading and writing the mark on a device, through its storage node, whichever that is."""

from __future__ import annotations

from tawara.model.epoch import Epoch
from tawara.model.errors import NoSource
from tawara.nodes.client import NodeClient
from tawara.wire import epoch


async def read_mark(nodes: NodeClient, origin: str, devid: int) -> Epoch | None:
    """The last epoch in which something was written on the device; None if it has none. Raises NodeUnreachable."""
    try:
        return epoch.parse(await nodes.read(f"{origin}/dev{devid}/{epoch.FILE}", limit=epoch.LARGEST))
    except NoSource:
        return None


async def write_mark(nodes: NodeClient, origin: str, devid: int, mark: Epoch) -> None:
    """Mark the device with an epoch. Raises NodeUnreachable."""
    body = epoch.render(mark)
    await nodes.put(f"{origin}/dev{devid}/{epoch.FILE}", body, length=len(body))
