"""The disks behind a device, and their health as reported by a fake smartctl, none, and the real one."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog.testing
import uvloop

from tawara.disks import disk_health
from tawara.disks.devices import Devices
from tawara.disks.disk_health import DiskHealthWatch, ask, published, read_lines
from tawara.disks.mounts import Mount, disks_behind, mount_of, mounted
from tawara.disks.pools import DevicePools
from tawara.model.health import DiskHealth, DiskVerdict
from tests.smartctl import reports


@pytest.fixture
def sys(tmp_path: Path) -> Path:
    """A /sys with a disk of two partitions, a drive, and a logical volume on a RAID over both."""
    block = tmp_path / "sys" / "devices" / "block"
    for name, number in (("sda", "8:0"), ("sda/sda1", "8:1"), ("nvme0n1", "259:0"), ("md0", "9:0"), ("dm-0", "253:0")):
        place = block / name
        place.mkdir(parents=True)
        if "/" in name:
            (place / "partition").write_text("1\n")
        link = tmp_path / "sys" / "dev" / "block" / number
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(place)
    for upper, lower in (("md0", "sda/sda1"), ("md0", "nvme0n1"), ("dm-0", "md0")):
        slaves = block / upper / "slaves"
        slaves.mkdir(exist_ok=True)
        (slaves / Path(lower).name).symlink_to(block / lower)
    return tmp_path / "sys"


@pytest.mark.parametrize(
    ("number", "disks"),
    [
        ((8, 0), ["sda"]),
        ((8, 1), ["sda"]),
        ((259, 0), ["nvme0n1"]),
        ((9, 0), ["nvme0n1", "sda"]),
        ((253, 0), ["nvme0n1", "sda"]),
        ((0, 35), []),
        ((7, 7), []),
    ],
)
def test_disks_behind_a_mount(sys: Path, number: tuple[int, int], disks: list[str]) -> None:
    """Partitions, RAID and logical volumes lead to whole disks; other file systems lead to none."""
    assert disks_behind(Mount(number, "none", "/mnt"), sys) == disks


async def test_a_query_of_smartctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """smartctl is run for health and attributes of the disk, and its output is parsed, whatever its exit code."""
    reports.program(tmp_path / "bin", reports.sata(reallocated=8))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    found = await ask("sda", now=lambda: 77.0)
    assert found == DiskHealth(DiskVerdict.WORN, 38, "8 sectors reallocated", 77)
    assert (tmp_path / "bin" / "asked").read_text() == "--json -H -A /dev/sda\n"


async def test_a_smartctl_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The health of a disk that does not respond is unknown after the time limit."""
    reports.program(tmp_path / "bin", reports.sata(), sleep=60)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    found = await ask("sda", timeout=0.2)
    assert (found.verdict, found.detail) == (DiskVerdict.UNKNOWN, "smartctl took longer than 0.2 s")


def _children() -> set[str]:
    return set(Path("/proc/self/task", str(os.getpid()), "children").read_text().split())


@pytest.mark.parametrize("steps", range(8))
def test_cancelling_a_query_ends_smartctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Whenever a query is cancelled, smartctl has ended before the event loop does."""
    reports.program(tmp_path / "bin", reports.sata(), sleep=60)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    complaints: list[object] = []
    before = _children()

    async def ask_and_cancel() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        asking = asyncio.create_task(ask("sda"))
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask_and_cancel())
    gc.collect()
    assert not complaints
    assert not _children() - before


async def test_smartctl_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without smartctl the health is unknown, and the reason is logged."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(disk_health, "_PLACES", str(tmp_path))
    assert (await ask("sda")).detail == "smartctl is not installed"


@pytest.mark.skipif(shutil.which("smartctl", path="/usr/sbin:/usr/bin") is None, reason="smartctl is not installed")
async def test_the_real_smartctl(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output of the real smartctl is parsed for any disk of this machine: a verdict, or smartctl's own message."""
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/bin")
    for disk in [*disks_behind(mount_of(Path("/"), mounted())), "no-such-disk"]:
        found = await ask(disk)
        assert found.checked_at is not None
        assert found.verdict is not DiskVerdict.UNKNOWN or (found.detail and "JSON" not in found.detail)


def made(directory: Path) -> DiskHealthWatch:
    devices = Devices(directory / "disks")
    return DiskHealthWatch(devices, DevicePools(devices))


Watching = Callable[[object], DiskHealthWatch]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watching:
    """Makes a watch over two devices that seem to be on the disk sda."""
    for device in ("dev1", "dev2"):
        (tmp_path / "disks" / device).mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(disk_health, "disks_behind", lambda mount: ["sda"])

    def make(report: object) -> DiskHealthWatch:
        reports.program(tmp_path / "bin", report)
        return made(tmp_path)

    return make


async def _until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(("passed", "level"), [(False, "warning"), (True, "debug")])
async def test_a_failing_disk_is_logged(watch: Watching, passed: bool, level: str) -> None:
    """The verdict of each query is logged, as a warning if the disk fails."""
    with structlog.testing.capture_logs() as logs:
        await watch(reports.sata(passed=passed))._check_devices()
    assert {each["log_level"] for each in logs if each["event"] == "disk_health_checked"} == {level}


async def test_published_health(watch: Watching, tmp_path: Path) -> None:
    """Each disk is queried once for all its devices, and by one of several processes; an old result is ignored."""
    first, second = tmp_path / "disks" / "dev1", tmp_path / "disks" / "dev2"
    assert published(first) == ""
    one = watch(reports.sata(passed=False))
    one.start()
    await _until(lambda: published(first) and published(second))
    await one.stop()
    assert published(first).startswith("health: failing\nhealth_detail: the disk's own assessment has failed\n")
    other = made(tmp_path)
    await other._check_devices()
    assert (tmp_path / "bin" / "asked").read_text().count("\n") == 1
    found = read_lines((first / "health").read_text())
    assert found is not None
    (first / "health").write_text(DiskHealth(DiskVerdict.OK, 1, "", int(time.time() - 7200)).lines())
    assert published(first) == ""
    (first / "health").write_text("nonsense")
    assert published(first) == ""
