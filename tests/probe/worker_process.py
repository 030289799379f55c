"""The workers in their own process, to be killed: `python -m tests.probe.worker_process DATABASE [SECONDS]`. DATABASE
is the path of an SQLite file or a URL. A device is presumed dead after SECONDS of absence, 900 by default. Leases are
short, and uploads expire after TAWARA_PROBE_UPLOAD_OPEN seconds, if set. With TAWARA_PROBE_ONLY only the worker of this
name runs, so that the traffic is little more than its own."""

import asyncio
import os
import signal
import sys

import structlog

from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.limits import Limits
from tawara.model.liveness import LivenessRules
from tawara.nodes.client import NodeClient
from tawara.workers.monitor import Monitor
from tawara.workers.service import Workers, WorkersOptions

UPLOAD_OPEN = "TAWARA_PROBE_UPLOAD_OPEN"
ONLY = "TAWARA_PROBE_ONLY"


async def work(database: str, rules: LivenessRules) -> None:
    """Work with short leases until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    metadata = await open_metadata(database if ":" in database else f"sqlite://{database}")
    options = WorkersOptions(
        timeout=0.2,
        sweep_period=0.5,
        names_period=0.2,
        lease=2,
        upload_open=int(os.environ.get(UPLOAD_OPEN, Limits().upload_open)),
        only=os.environ.get(ONLY) or None,
    )
    async with NodeClient() as nodes:
        view = ClusterView(metadata, min_free_mb=1, rules=rules)
        monitor = Monitor(view, metadata, nodes, side_channel_port=None)
        workers = Workers(metadata, view, nodes, Wakeups(), options)
        await monitor.start()
        await workers.start()
        print("ready", flush=True)
        await stop.wait()
        await workers.stop()
        await monitor.stop()
    await metadata.close()


if __name__ == "__main__":
    # Standard output is not read after the word `ready`; a full pipe would block this process.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    rules = LivenessRules(after=int(sys.argv[2])) if len(sys.argv) > 2 else LivenessRules()
    asyncio.run(work(sys.argv[1], rules))
