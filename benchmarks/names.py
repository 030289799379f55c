"""Cost of keeping file metadata on a device: none, an xattr, a file beside each file, or a journal (docs/recovery.md).

Files of 10 KB are stored as a storage node stores them (temporary name, fsync, rename, fsync of the directory), and
their names with them. `python -m benchmarks.names [COUNT] [--place DIRECTORY]`. With `--rebuild`, what `tawara rebuild`
takes for the names of COUNT files with two copies each on four devices, without their bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tawara.model.cluster import Checksum, HashType
from tawara.model.fid import relative_path
from tawara.model.journal_records import FileMetadata, JournalRecord, RecordState
from tawara.wire import journal
from tawara.wire.journal import Head

BODY = b"x" * 10_240
DEVICES = 4
FLUSH = 1000
"""Files between two tails: at 200 a second for each device, those of 5 seconds."""


def record(fid: int) -> JournalRecord:
    """The metadata of a file."""
    checksum = Checksum(HashType.MD5, fid.to_bytes(16))
    key = b"photos/2026/11/%08d.jpg" % fid
    return JournalRecord(
        fid, fid, RecordState.HERE, FileMetadata(1, key, 2, len(BODY), 1_795_000_000, "image/jpeg", checksum)
    )


def store(path: Path, body: bytes, attribute: bytes = b"") -> None:
    """A file on the disk before this returns."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(descriptor, body)
    if attribute:
        os.setxattr(descriptor, "user.tawara", attribute)
    os.fsync(descriptor)
    os.close(descriptor)
    temporary.rename(path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


class ActiveSegments:
    """A journal as the journal writer writes it, without the network."""

    def __init__(self, device: Path) -> None:
        self._device = device
        self._lines: list[bytes] = []
        self._segment = 0
        (device / journal.segment_path(0, 1)).parent.mkdir(parents=True)

    def add(self, fid: int) -> None:
        self._lines.append(journal.encode_record(record(fid)))
        if fid % FLUSH == 0:
            full = sum(map(len, self._lines)) >= 256 * 1024
            self._segment += full
            path = journal.segment_path(0, self._segment) if full else journal.active_segment_path(fid // FLUSH % 2)
            head = Head(tawara="names", device=1, generation=1, segment=self._segment)
            target = self._device / path
            target.unlink(missing_ok=True)
            store(target, journal.pack(head, self._lines))
            if full:
                self._lines = []


def forms(device: Path) -> dict[str, Callable[[int, Path], None]]:
    """Name of a form -> what stores a file in it."""
    active_segments = ActiveSegments(device)

    def with_journal(fid: int, path: Path) -> None:
        store(path, BODY)
        active_segments.add(fid)

    def with_sidecar(fid: int, path: Path) -> None:
        store(path, BODY)
        store(path.with_suffix(".name"), journal.encode_record(record(fid)))

    return {
        "nothing": lambda _, path: store(path, BODY),
        "xattr": lambda fid, path: store(path, BODY, journal.encode_record(record(fid))),
        "sidecar": with_sidecar,
        "journal": with_journal,
    }


def _written() -> int:
    return int(Path("/proc/self/io").read_text().split("write_bytes:")[1].split()[0])


def measure(place: Path, form: str, count: int) -> None:
    """Print one line."""
    device = Path(tempfile.mkdtemp(prefix="tawara-names-", dir=place))
    try:
        store_as = forms(device)[form]
        for fid in range(1, count + 1, 1000):
            (device / relative_path(fid)).parent.mkdir(parents=True, exist_ok=True)
        (device / relative_path(count)).parent.mkdir(parents=True, exist_ok=True)
        began, cpu, written = time.perf_counter(), time.process_time(), _written()
        for fid in range(1, count + 1):
            store_as(fid, device / relative_path(fid))
        took, cpu, written = time.perf_counter() - began, time.process_time() - cpu, _written() - written
        files = sum(path.is_file() for path in device.rglob("*"))
        print(
            f"{form:<8} {count / took:8.0f} files/s {cpu / count * 1e6:6.0f} µs CPU {files / count:6.3f} inodes"
            f" {written / count:7.0f} bytes written for a file",
            flush=True,
        )
    finally:
        shutil.rmtree(device)


def write_names(device: Path, devid: int, count: int) -> None:
    """The journal of a device that has every second of `count` files."""
    (device / journal.segment_path(0, 1)).parent.mkdir(parents=True)
    devices = [{"devid": each, "hostid": 1, "status": "alive", "weight": 100} for each in range(1, DEVICES + 1)]
    head = Head(tawara=journal.MANIFEST, device=devid, generation=1)
    (device / journal.manifest_path(0)).write_bytes(journal.encode_manifest(head, {"device": devices}))
    fids = [fid for fid in range(1, count + 1) if devid - 1 in (fid % DEVICES, (fid + 1) % DEVICES)]
    for segment, start in enumerate(range(0, len(fids), FLUSH), 1):
        lines = [journal.encode_record(record(fid)) for fid in fids[start : start + FLUSH]]
        complete = start + FLUSH >= len(fids)
        head = Head(
            tawara="names", device=devid, generation=1, segment=segment, before=segment - 1, complete=complete,
            highest_fid=count,
        )  # fmt: skip
        (device / journal.segment_path(0, segment)).write_bytes(journal.pack(head, lines))


def measure_rebuild(place: Path, count: int) -> None:
    """Print one line."""
    with tempfile.TemporaryDirectory(prefix="tawara-names-", dir=place) as directory:
        for devid in range(1, DEVICES + 1):
            write_names(Path(directory) / f"dev{devid}", devid, count)
        command = ["rebuild", f"sqlite://{directory}/new.db", directory, "--only", "--trust", "--json"]
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "tawara", *command], check=True, capture_output=True, text=True)
        took, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(done.stdout)
        print(
            f"rebuild  {report['files']:,} files in {took:.0f} s, {used.ru_utime + used.ru_stime:.0f} s CPU,"
            f" at most {used.ru_maxrss // 1024} MiB of memory"
        )


def main() -> None:
    """Measure all forms, one after the other, twice, or a rebuild."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=3000)
    parser.add_argument("--place", type=Path, default=Path("/var/tmp"), help="a directory on a disk")
    parser.add_argument("--rebuild", action="store_true")
    arguments = parser.parse_args()
    if arguments.rebuild:
        measure_rebuild(arguments.place, arguments.count)
        return
    for _ in range(2):
        for form in ("nothing", "xattr", "sidecar", "journal"):
            measure(arguments.place, form, arguments.count)


if __name__ == "__main__":
    main()
