"""An instance as one file: what is exported is what is imported, and nothing else gets in."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tawara.model.errors import TawaraError
from tawara.vm import transfer
from tawara.vm.errors import ImageError
from tawara.vm.host import GuestHost
from tawara.vm.moving import export_instance, import_instance
from tawara.vm.qcow2 import MAGIC
from tawara.vm.transfer import ExportedInstance

if TYPE_CHECKING:
    from tests.unit.vm.conftest import StepHost

WEB = ExportedInstance("web", "web.example", "tawara-guest-web", "1", "d" * 12, "b" * 12, (("cpus", "2"),))


def qcow2(backing: str = "", *, features: int = 0, data: bytes = b"") -> bytes:
    """The head of a qcow2 file on a backing file, then whatever data."""
    name = backing.encode()
    head = struct.pack(">IIQI", MAGIC, 3, 104 if name else 0, len(name)).ljust(72, b"\0")
    return head + struct.pack(">Q", features).ljust(32, b"\0") + name + data


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """An exported instance with these members."""
    with path.open("wb") as out:
        transfer.write_archive(out, WEB, files)
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Header, disks and snapshots come back as they were."""
    files = {transfer.OVERLAY: b"over" * 1000, transfer.DATA: b"data", "system/snapshots/100.xml": b"<xml/>"}
    path = archive(tmp_path / "web.tar", files)
    assert transfer.read_header(path) == WEB
    assert set(transfer.unpack(path, tmp_path / "in")) == files.keys()
    assert {name: (tmp_path / "in" / name).read_bytes() for name in files} == files


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "system/layers", "system/snapshots/1.xml"])
def test_a_member_that_does_not_belong_there_is_refused(tmp_path: Path, name: str) -> None:
    """A file cannot write anything but disks and snapshots' descriptions, and these only into the instance."""
    path = archive(tmp_path / "web.tar", {transfer.OVERLAY: b"over", name: b"evil"})
    with pytest.raises(ImageError, match="does not belong"):
        transfer.unpack(path, tmp_path / "in")


def test_a_link_is_refused(tmp_path: Path) -> None:
    """Links could lead outside."""
    path = archive(tmp_path / "web.tar", {})
    with tarfile.open(path, "w") as out:
        member = tarfile.TarInfo(transfer.DATA)
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        out.addfile(member)
    with pytest.raises(ImageError, match="does not belong"):
        transfer.unpack(path, tmp_path / "in")


def test_damage_is_noticed(tmp_path: Path) -> None:
    """One changed byte, or a file that was cut short, and it is refused."""
    path = archive(tmp_path / "web.tar", {transfer.OVERLAY: b"over" * 1000})
    whole = path.read_bytes()
    at = whole.index(b"overover") + 7
    path.write_bytes(whole[:at] + b"X" + whole[at + 1 :])
    with pytest.raises(ImageError, match="checksums do not match"):
        transfer.unpack(path, tmp_path / "in")
    path.write_bytes(whole[: at + 600])
    with pytest.raises(ImageError):
        transfer.unpack(path, tmp_path / "in2")
    path.write_bytes(b"hello")
    with pytest.raises(ImageError, match="not an exported instance"):
        transfer.read_header(path)
    with tarfile.open(path, "w") as out:
        out.addfile(tarfile.TarInfo("other"), io.BytesIO())
    with pytest.raises(ImageError, match="not an instance"):
        transfer.read_header(path)


@pytest.mark.parametrize(
    "content",
    [qcow2("/etc/shadow"), qcow2(), qcow2("/base", features=4), b"raw", qcow2("/base").replace(b"QFI", b"QFJ")],
)
def test_a_disk_that_shows_other_files_is_refused(tmp_path: Path, content: bytes) -> None:
    """A disk stands on the instance's own layer, and has all its data inside."""
    disk = tmp_path / "disk"
    disk.write_bytes(content)
    with pytest.raises(ImageError):
        transfer.check_disk(disk, "/base")
    disk.write_bytes(qcow2("/base"))
    transfer.check_disk(disk, "/base")


@pytest.mark.host_step
class TestHost:
    """Between hosts that have the package."""

    @pytest.fixture
    def hosts(self, step_host: StepHost, command_line: Callable[[], GuestHost]) -> GuestHost:
        """A host whose guest `web` runs, with a disk that is one."""
        step_host.place('[data]\nsize = "64M"\n[[nic]]\nnetwork = "host0"\n')
        step_host.run()
        self.write_disk(step_host, b"first")
        return command_line()

    @staticmethod
    def write_disk(host: StepHost, data: bytes) -> None:
        """Make the guest's disks qcow2 files with this data."""
        delta = host.state / "images" / ("d" * 12) / "disk.qcow2"
        host.instance("system/overlay.qcow2").write_bytes(qcow2(str(delta), data=data))
        host.instance("data.qcow2").write_bytes(qcow2(data=data))

    def test_an_instance_comes_back_whole(self, step_host: StepHost, hosts: GuestHost, tmp_path: Path) -> None:
        """Disks, settings and snapshots are those of the export; what was there is gone, and it is left off."""
        hosts.set("web", {"cpus": 3})
        with pytest.raises(TawaraError, match="web is: running; its disks can be copied only when it is off"):
            export_instance(hosts, "web", tmp_path / "web.tar")
        hosts.stop("web", force=True)
        hosts.snapshot("web", "kept")
        export_instance(hosts, "web", tmp_path / "web.tar")
        assert (tmp_path / "web.tar").stat().st_mode & 0o777 == 0o600
        hosts.delete_snapshot("web", "kept")
        hosts.set("web", {"cpus": None, "memory_kib": 1 << 20})
        self.write_disk(step_host, b"second")
        with pytest.raises(TawaraError, match="web has data of its own here"):
            import_instance(hosts, tmp_path / "web.tar", replace=False)
        import_instance(hosts, tmp_path / "web.tar", replace=True)
        for disk in ("system/overlay.qcow2", "data.qcow2"):
            assert step_host.instance(disk).read_bytes().endswith(b"first")
        assert hosts.settings("web") == {"cpus": 3}
        assert hosts.snapshots("web") == ["kept"]
        assert hosts.domain("web").situation() == "off"
        assert not step_host.instance("import.new").exists()
        hosts.start("web")

    def test_another_version_is_refused(self, step_host: StepHost, hosts: GuestHost, tmp_path: Path) -> None:
        """A disk fits only the delta that it was written on; without the package there is nothing to fit it to."""
        hosts.stop("web", force=True)
        export_instance(hosts, "web", tmp_path / "web.tar")
        step_host.place('version = "2"\n[[nic]]\nnetwork = "host0"\n', delta="e" * 12)
        hosts.upgrade(["web"])
        with pytest.raises(TawaraError, match="exported of version 1, which has another system disk"):
            import_instance(hosts, tmp_path / "web.tar", replace=True)
        step_host.take_away("web")
        step_host.run()
        with pytest.raises(TawaraError, match="there is no guest web here"):
            import_instance(hosts, tmp_path / "web.tar", replace=True)
