"""An S3 listener in its own process, to be killed: `python -m tests.probe.s3_process DATABASE PORT KEY_FILE`. It takes
the devices for writeable, as no monitor looks at them, and prints `ready`."""

import asyncio
import signal
import sys
from pathlib import Path

import structlog

from tawara.gateway.s3.server import S3Server
from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.cluster import Observation, Observed
from tawara.nodes.client import NodeClient
from tawara.store.access_keys import AccessKeys
from tawara.store.key_file import KeyFile


async def serve(database: str, port: int, key_file: Path) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    metadata = await open_metadata(database)
    view = ClusterView(metadata, min_free_mb=1)
    await view.refresh()
    view.observe(dict.fromkeys(view.current.devices, Observation(Observed.WRITEABLE)))
    async with NodeClient() as nodes:
        server = S3Server(
            metadata,
            view,
            nodes,
            Wakeups(),
            listen=("127.0.0.1", port),
            access_keys=AccessKeys(metadata, KeyFile(key_file)),
            region="us-east-1",
        )
        await server.start()
        print("ready", flush=True)
        await stop.wait()
        await server.stop()
    await metadata.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
