"""All benchmarks, one after another: `python -m benchmarks [NAME…]`, after a line that says on what machine.

Each is a module of its own, which says in its first lines what it measures against whom, and takes its own flags when
it is run by itself: `python -m benchmarks.gateway --seconds 5`.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

NAMES = sorted(each.stem for each in Path(__file__).parent.glob("[!_]*.py"))


def machine() -> str:
    """What these figures were measured on."""
    cpus = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in cpus.splitlines() if line.startswith("model name")), "?")
    now = time.strftime("%Y-%m-%d %H:%M")
    load = os.getloadavg()[0]
    return f"{now}, {os.cpu_count()} x {model}, Python {platform.python_version()}, load {load:.1f} before"


def main() -> int:
    """Run those that are named, or all; 1 if any failed."""
    names = sys.argv[1:] or NAMES
    if unknown := set(names) - set(NAMES):
        print(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(NAMES)}.", file=sys.stderr)
        return 2
    print(machine())
    failed = []
    for name in names:
        print(f"\n== {name} (python -m benchmarks.{name})", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
