"""How often gateways read files of other machines from storage nodes, and whether they ever read old bytes.

python -m benchmarks.gateway_cache [--reads N] [--overwrites N]

Three gateways, each behind an nginx of its own with its own cache, and three storage nodes at loopback addresses. All
files are 64 KiB, on one node each, and none on a gateway's own disk. Counted are the GETs that reach storage nodes. The
throughput of the cache beside plain nginx is in benchmarks.gateway ("nginx, cache").
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import structlog
import uvloop

from benchmarks._place import add_option, place
from tawara.disks.reading import FileRequest
from tawara.node import file_requests
from tawara.node import http as node_http
from tests.acceptance.gateway_fixture import AUTHORISED, store_fixture
from tests.acceptance.test_fid_cache import SETTINGS, Ring, ring

SIZE = 65_536
FETCHED: Counter[str] = Counter()


def _count(target: str, body: bool) -> FileRequest:
    FETCHED[target] += body
    return FileRequest(target, body)


def reads(address: tuple[str, int], path: str, expected: bytes, times: int) -> Counter[str]:
    """Read a file several times on one connection; count right bodies, wrong ones and errors."""
    found: Counter[str] = Counter()
    connection = http.client.HTTPConnection(*address, timeout=60)
    for _ in range(times):
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            found["right" if (response.status, body) == (200, expected) else f"wrong: {response.status}"] += 1
        except (OSError, http.client.HTTPException) as error:
            found[f"failed: {error!r}"] += 1
            connection.close()
    connection.close()
    return found


def overwrites(address: tuple[str, int], path: str, times: int) -> Counter[str]:
    """Overwrite a file and read it at once, several times."""
    found: Counter[str] = Counter()
    connection = http.client.HTTPConnection(*address, timeout=60)
    for number in range(times):
        body = b"%d " % number * 100
        connection.request("PUT", f"{path}?class=one", body, AUTHORISED)
        connection.getresponse().read()
        connection.request("GET", path)
        found["new" if connection.getresponse().read() == body else "OLD"] += 1
    connection.close()
    return found


async def everywhere(one: Ring, path: str, expected: bytes, times: int, *, but: int = -1) -> Counter[str]:
    """Read a file through all gateways at once."""
    gateways = [gateway for number, gateway in enumerate(one.gateways) if number != but]
    counts = await asyncio.gather(
        *(asyncio.to_thread(reads, gateway.address, path, expected, times) for gateway in gateways)
    )
    return sum(counts, Counter())


def show(label: str, found: Any) -> None:
    """Print a line."""
    print(f"    {label:64}{', '.join(f'{count} {name}' for name, count in found.items())}", flush=True)


async def measure(parent: Path, times: int, changes: int) -> None:
    """Measure and print."""
    for module in (file_requests, node_http):
        module.FileRequest = _count  # type: ignore[attr-defined]
    with place(parent) as directory:
        data = os.urandom(SIZE)
        (directory / "one").mkdir()
        async with store_fixture(directory / "one", nginx=True, local=False, cache=SETTINGS) as store:
            await store.put("/d/k?class=one", data)
            found = await asyncio.to_thread(reads, store.gateway.address, "/d/k", data, times)
            show(f"one gateway, {times} reads of a file", found | {"GETs at nodes": FETCHED.total()})
            began = time.monotonic()
            found = await asyncio.to_thread(overwrites, store.gateway.address, "/d/k", changes)
            show(f"{changes} overwrites, each read at once ({time.monotonic() - began:.0f} s)", found)
        for rate, label in ((1e9, "three gateways, cold files"), (1.0, "three gateways, hot files")):
            (directory / label).mkdir()
            async with ring(directory / label, hot_rate=rate) as one:
                for number in range(20):
                    await one.store.put(f"/d/{number}?class=one", data)
                FETCHED.clear()
                found = Counter()
                for number in range(20):
                    found += await everywhere(one, f"/d/{number}", data, max(1, times // 60))
                most = max(FETCHED.values())
                show(f"{label}: 20 files", found | {"GETs at nodes": FETCHED.total(), "of one file at most": most})
                FETCHED.clear()
                gone = one.owner((await one.store.stored(b"0")).fid)
                await one.fronts[gone].stop()
                found = Counter()
                for number in range(20):
                    found += await everywhere(one, f"/d/{number}", data, max(1, times // 60), but=gone)
                show(f"{label}: one gateway killed", found | {"GETs at nodes": FETCHED.total()})


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--overwrites", type=int, default=10_000)
    add_option(parser)
    arguments = parser.parse_args()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(40), logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    uvloop.run(measure(arguments.directory, arguments.reads, arguments.overwrites))


if __name__ == "__main__":
    main()
