"""What planning one gateway PUT costs: milliseconds of processor time by the number of devices.

    python -m benchmarks.placement [--devices 6 100 400]

Each plan is what the gateway decides for one PUT of a class that wants two copies: whether the upload can be admitted,
which devices it goes to, and whether its policy is satisfied afterwards. The cluster is the same for all plans, as
between two rounds of the monitor; the first plan on a new cluster is shown apart, as it fills what the cluster caches.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import replace

from tawara.model.cluster import Cluster, Device, DeviceState, Host, HostState, Observation, Observed, StorageClass
from tawara.model.placement import choose_destinations
from tawara.model.policy import Situation, can_place, is_content, parse, plan_destinations

PER_HOST = 12
"""Most devices of a host."""
PLANS = 2000
CLASS = StorageClass(0, "default", 2)


def cluster(devices: int) -> Cluster:
    """So many devices, unevenly full, on at least three hosts."""
    hosts = max(3, -(-devices // PER_HOST))
    return Cluster(
        hosts={n: Host(n, f"h{n}", HostState.ALIVE, f"10.{n // 250}.0.{n % 250}") for n in range(hosts)},
        devices={
            n: Device(n, n % hosts, DeviceState.ALIVE, mb_total=10**6, mb_used=10**5 + n * 997 % 10**5)
            for n in range(1, devices + 1)
        },
        observed={n: Observation(Observed.WRITEABLE) for n in range(1, devices + 1)},
    )


def plan(seen: Cluster, rng: random.Random) -> None:
    """Decide what the gateway decides for one PUT."""
    can_place(seen, CLASS, rng)
    devids = plan_destinations(seen, CLASS, 100_000, rng)
    is_content(parse(CLASS.policy), Situation.of(seen, devids, CLASS.mindevcount), rng)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--devices", type=int, nargs="+", default=[6, 100, 400])
    rng = random.Random(1)
    for number in parser.parse_args().devices:
        seen = cluster(number)
        began = time.process_time()
        for _ in range(PLANS // 10):
            plan(replace(seen), rng)
        first = (time.process_time() - began) / (PLANS // 10)
        began = time.process_time()
        for _ in range(PLANS):
            plan(seen, rng)
        gateway = (time.process_time() - began) / PLANS
        began = time.process_time()
        for _ in range(PLANS):
            choose_destinations(seen, rng, size=100_000)
        tracker = (time.process_time() - began) / PLANS
        print(
            f"{number:5} devices   gateway PUT {gateway * 1000:6.3f} ms ({first * 1000:6.3f} on a new cluster)"
            f"   create_open {tracker * 1000:6.3f} ms"
        )


if __name__ == "__main__":
    main()
