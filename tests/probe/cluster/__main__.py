"""`python -m tests.probe.cluster [--engine ENGINE] [FAULT…]`: inject faults into a cluster and print the results. The
exit code is 1 if anything acknowledged was lost, or not repaired, or if anything was left over. `--list` lists the
faults; a FAULT is a part of such a name. With TAWARA_PROBE_LOGS=DIRECTORY the daemons' logs are kept there."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.probe.cluster import isolation
from tests.probe.cluster.faults import FAULTS, Fault
from tests.probe.cluster.probing import SHOWN, Result, probe_all

WIDTH = 150
"""Columns that the table has at least, in a file, too."""


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="tests.probe.cluster", description="Cause faults in a cluster under load.")
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="a part of a fault's name; all if none is given")
    parser.add_argument("--engine", choices=("postgresql", "mysql", "sqlite"), default="postgresql")
    parser.add_argument("--list", action="store_true", help="name the faults")
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    if options.list:
        print("\n".join(FAULTS))
        return 0
    wanted = _chosen(options.faults)
    if isolation.inside():
        return _inside(wanted, options)
    return _outside(sys.argv[1:])


def _chosen(parts: list[str]) -> list[Fault]:
    """The faults whose names contain one of these parts, in the usual order."""
    for part in parts:
        if not any(part in name for name in FAULTS):
            sys.exit(f"There is no fault like {part!r}; --list names them")
    return [fault for name, fault in FAULTS.items() if not parts or any(part in name for part in parts)]


def _outside(arguments: list[str]) -> int:
    """Run it in isolation, and check that nothing is left over."""
    mark = isolation.new_mark()
    with tempfile.TemporaryDirectory(prefix="tawara-probe-", ignore_cleanup_errors=True) as place:
        directory = Path(place)
        directory.chmod(0o755)  # the database's own user goes through it to its files
        command, environment = isolation.command([*arguments, "--directory", place], mark)
        status = subprocess.run(command, env=environment, check=False).returncode
        left = isolation.remnants(mark, directory)
    for each in left:
        print(f"left over: {each}", file=sys.stderr)
    return status or bool(left)


def _inside(wanted: list[Fault], options: argparse.Namespace) -> int:
    if isolation.isolated():
        isolation.set_up(options.directory)

    def report(result: Result) -> None:
        if options.json:
            print(json.dumps(asdict(result) | {"good": result.good}), flush=True)
        else:
            _report(result)

    results = asyncio.run(probe_all(wanted, options.engine, options.directory, report))
    if not options.json:
        console = Console()
        Console(width=max(console.width, WIDTH)).print(_table(results, options.engine))
    return not all(result.good for result in results)


def _report(result: Result) -> None:
    """Print the problems of a result at once, on standard error, because the table comes later."""
    state = "skipped" if result.skipped else "well" if result.good else "NOT WELL"
    print(f"{result.fault}: {state} ({result.seconds:.0f} s)", file=sys.stderr, flush=True)
    for kind, complaints in (("lost", result.lost), ("left", result.left)):
        for each in complaints[:SHOWN]:
            print(f"    {kind}: {each}", file=sys.stderr)
        if len(complaints) > SHOWN:
            print(f"    {kind}: and {len(complaints) - SHOWN} more", file=sys.stderr, flush=True)


def _table(results: list[Result], engine: str) -> Table:
    table = Table(title=f"Faults under load, on {engine}")
    table.add_column("fault")
    for name in ("load held", "failed", "slowest", "keys", "lost", "repaired in", "settled in"):
        table.add_column(name, justify="right")
    table.add_column("notes")
    for each in results:
        if each.skipped:
            table.add_row(each.fault, *[""] * 7, each.skipped)
            continue
        table.add_row(
            each.fault, f"{each.rate:.0f} of {each.usual_rate:.0f}/s", f"{each.failed:.1%}", f"{each.slowest:.1f} s",
            str(each.stored), str(len(each.lost)), _seconds(each.repaired), _seconds(each.settled),
            "; ".join([*each.notes, *(["not settled"] if each.left else [])]),
        )  # fmt: skip
    return table


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
