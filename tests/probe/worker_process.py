"""The workers in a process of their own, to be killed: `python -m tests.probe.worker_process DATABASE`."""

import asyncio
import signal
import sys
from pathlib import Path

import structlog

from tawara.client.nodes import NodeClient
from tawara.metadata.bell import Bells
from tawara.metadata.sqlite import SqliteMetadata
from tawara.metadata.view import ClusterView
from tawara.workers.monitor import Monitor
from tawara.workers.service import Workers


async def work(database: Path) -> None:
    """Work with short leases until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    metadata = SqliteMetadata.open(database)
    async with NodeClient() as nodes:
        view = ClusterView(metadata, min_free_mb=1)
        monitor = Monitor(view, metadata, nodes, side_channel_port=None)
        workers = Workers(metadata, view, nodes, Bells(), patience=0.2, sweep_period=0.5, lease=2)
        await monitor.start()
        await workers.start()
        print("ready", flush=True)
        await stop.wait()
        await workers.stop()
        await monitor.stop()
    await metadata.close()


if __name__ == "__main__":
    # Nobody reads standard output after the word `ready`; a pipe that is full would hold us up.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(work(Path(sys.argv[1])))
