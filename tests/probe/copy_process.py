"""Copies a file in a process of its own, to be killed: `python -m tests.probe.copy_process HOW WHERE KEY NEW_KEY`.

HOW is `client` (WHERE is a tracker) or `store` (WHERE is the URL of a database): then the new file is the source twice,
joined by the service that gateways use. Prints `ready`, starts at SIGUSR1, and prints the new fid.
"""

import asyncio
import random
import signal
import sys

import structlog

from tawara.client import AsyncClient
from tawara.metadata import files
from tawara.metadata.open import open_metadata
from tawara.metadata.view import ClusterView
from tawara.metadata.wakeups import Wakeups
from tawara.model.assembling import FileRange
from tawara.model.cluster import Observation, Observed
from tawara.model.limits import Limits
from tawara.nodes.client import NodeClient
from tawara.store.conditions import UNCONDITIONAL
from tawara.store.file_assembler import FileAssembler
from tawara.store.replica_locator import ReplicaLocator
from tawara.store.service import FileStore
from tawara.store.writer import FileWriter, WriteRequest

DOMAIN = "d"


async def by_client(start: asyncio.Event, tracker: str, key: str, new_key: str) -> int:
    """Copy the file as `tawara cp` does; return the new fid."""
    async with AsyncClient(tracker) as client:
        await client.domains()  # connects
        print("ready", flush=True)
        await start.wait()
        return (await client.copy(DOMAIN, key, DOMAIN, new_key)).fid


async def by_store(start: asyncio.Event, database: str, key: str, new_key: str) -> int:
    """Join the file with itself as a gateway does; return the new fid."""
    metadata = await open_metadata(database)
    view, rng = ClusterView(metadata, min_free_mb=1), random.Random()
    await view.refresh()
    view.observe(dict.fromkeys(view.current.devices, Observation(Observed.WRITEABLE)))
    store = FileStore(metadata, view, Wakeups(), rng)
    async with NodeClient() as nodes:
        writer = FileWriter(metadata, view, nodes, store, local=None, limits=Limits())
        locator = ReplicaLocator(view, nodes, rng)
        assembler = FileAssembler(metadata, view, nodes, store, writer, locator, local=None)
        domain = view.current.domains[DOMAIN]
        print("ready", flush=True)
        await start.wait()
        source = await store.find(domain, key.encode())
        request = WriteRequest(domain, new_key.encode(), domain.classes[0], None, None, UNCONDITIONAL)
        await assembler.assemble(request, [FileRange.whole(source)] * 2)
        made = await metadata.read(files.find, domain.dmid, new_key.encode())
        assert made
        writer.close()
    await metadata.close()
    return made.fid


async def main(how: str, *args: str) -> None:
    """Copy when the signal comes."""
    start = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, start.set)
    fid = await {"client": by_client, "store": by_store}[how](start, *args)
    print(fid, flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(*sys.argv[1:]))
