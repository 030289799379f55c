"""The usage file, mounts and disk load, from the system's files."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tawara.disks import disk_load
from tawara.disks.devices import Devices, DiskUsage
from tawara.disks.disk_load import Sample
from tawara.disks.mounts import Mount, MountIds, mount_of, parse_mounts, place_of
from tawara.node.usage import render, write

MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 8:17 / /var/mog\\040data/dev1 rw - xfs /dev/sdb1 rw
31 22 8:17 /sub /run/elsewhere rw shared:5 - xfs /dev/sdb1 rw
"""


def test_the_lines_of_the_file() -> None:
    """Names are sorted, sizes are in KiB, and the share is rounded up as by df."""
    mount = Mount((8, 17), "/dev/sdb1", "/mnt")
    text = render(DiskUsage(1001, 2999, "an-id", holds_files=False), mount, MountIds("f1", "d1"), 1700000000)
    assert text == (
        "available: 2999\ndevice: /dev/sdb1\ndisk: /mnt\nfile_system: f1\nholds: nothing\n"
        "identity: an-id\ntime: 1700000000\n"
        "total: 4000\nuse: 26%\nused: 1001\nwhole_disk: d1\n"
    )


def test_the_file_is_replaced(tmp_path: Path) -> None:
    """Writing again replaces the file and leaves no temporary one."""
    (tmp_path / "dev1").mkdir()
    for now in (1, 2):
        write(Devices(tmp_path), "dev1", now)
    assert "time: 2\n" in (tmp_path / "dev1" / "usage").read_text()
    assert not list((tmp_path / "dev1" / "~incoming").iterdir())


def test_mounts_are_parsed() -> None:
    """Numbers, sources and mount points are parsed, with escaped blanks."""
    assert parse_mounts(MOUNTS) == [
        Mount((8, 1), "/dev/sda1", "/"),
        Mount((8, 17), "/dev/sdb1", "/var/mog data/dev1"),
        Mount((8, 17), "/dev/sdb1", "/run/elsewhere"),
    ]


def test_a_directory_outside_of_every_mount(tmp_path: Path) -> None:
    """Without a mount, the directory itself counts as the disk."""
    assert mount_of(tmp_path, []).point == str(tmp_path)


def test_disk_statistics_are_parsed() -> None:
    """The thirteenth column is the busy time."""
    line = " 254       0 vda 74924 25935 3415346 12303 22989 33124 2171496 7171 0 8400 20284 7124"
    assert disk_load.parse(line + "\n") == {(254, 0): 8400}


def test_the_load_of_a_disk() -> None:
    """A disk busy for half of two seconds has a load of 50 %; an unknown disk has none."""
    before, after = Sample(10.0, {(8, 0): 1000}), Sample(12.0, {(8, 0): 2000})
    assert disk_load.percent(before, after, (8, 0)) == 50.0
    assert disk_load.percent(before, after, (8, 16)) is None
    assert disk_load.percent(before, after, None) is None


@given(st.integers(0, 2**32), st.integers(0, 2**32), st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_load_is_a_percentage(busy: int, later: int, at: float, then: float) -> None:
    """The load is between 0 and 100, also when counters wrap and clocks do not advance."""
    load = disk_load.percent(Sample(at, {(8, 0): busy}), Sample(then, {(8, 0): later}), (8, 0))
    assert load is None or 0 <= load <= 100


def test_shared_disks_and_file_systems(tmp_path: Path) -> None:
    """Devices on partitions of one disk share the disk; those on one file system share its space; other machines have
    other disks."""
    for name, number in (("sda/sda1", "8:1"), ("sda/sda2", "8:2"), ("sdb", "8:16")):
        block = tmp_path / "devices" / name
        block.mkdir(parents=True, exist_ok=True)
        if "/" in name:
            (block / "partition").touch()
        (tmp_path / "dev" / "block").mkdir(parents=True, exist_ok=True)
        (tmp_path / "dev" / "block" / number).symlink_to(block)
    one, two, other = (
        place_of(Mount((8, minor), f"/dev/{minor}", f"/mnt/{minor}"), "boot", tmp_path) for minor in (1, 2, 16)
    )
    assert one.disk == two.disk != other.disk
    assert len({one.file_system, two.file_system, other.file_system}) == 3
    bound = place_of(Mount((8, 1), "/dev/1", "/mnt/elsewhere"), "boot", tmp_path)
    assert bound == one, "the same file system, mounted twice"
    assert place_of(Mount((8, 1), "/dev/1", "/mnt/1"), "another boot", tmp_path).disk != one.disk
    memory = place_of(Mount((0, 40), "tmpfs", "/tmp"), "boot", tmp_path)
    assert memory != place_of(Mount((0, 41), "tmpfs", "/run"), "boot", tmp_path), "each is a disk of its own"
