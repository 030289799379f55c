"""The workers in a process of their own, to be killed: `python -m tests.probe.worker_process DATABASE [SECONDS]`.

DATABASE is the path of an SQLite file or a URL. A device that is absent for so many seconds is presumed dead, 900
unless said otherwise. Leases are short, and uploads are given up soon when TAWARA_PROBE_UPLOAD_OPEN says after how many
seconds. With TAWARA_PROBE_ONLY there is only the worker of this name, so that little else than its work is exchanged.
"""

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
    # Nobody reads standard output after the word `ready`; a pipe that is full would hold us up.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    rules = LivenessRules(after=int(sys.argv[2])) if len(sys.argv) > 2 else LivenessRules()
    asyncio.run(work(sys.argv[1], rules))
