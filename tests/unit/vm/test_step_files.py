"""Files of the host: replaced completely or left unchanged, whatever the file system does."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.vm.conftest import StepHost

pytestmark = pytest.mark.host_step

CARD = '[[nic]]\nnetwork = "host0"\n'
OWN = b"127.0.0.1 localhost\n10.0.0.7 the-operators-own\n"
BLOCK = "# tawara-vm: begin\n192.168.233.43 web.example web\n# tawara-vm: end\n"


def in_namespace(host: StepHost, prepare: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run the step with the host's /etc as its own file system; then print /etc/hosts."""
    script = (
        f"mount -t tmpfs -o size=16k,nr_inodes=8 tmpfs etc; cat own >etc/hosts; {prepare}\n"
        f"{shlex.join(['sh', str(host.step), *words])} >&2; code=$?; cat etc/hosts; exit $code"
    )
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, "--mount", "sh", "-c", script]
    return subprocess.run(command, cwd=host.root, env=host.environment, capture_output=True)


@pytest.mark.parametrize(
    "trouble",
    [
        "dd if=/dev/zero of=etc/filler bs=4k 2>/dev/null",
        "mount -o remount,ro etc",
        "i=0; while true >etc/$i; do i=$((i + 1)); done 2>/dev/null",
    ],
    ids=["full", "read-only", "out of inodes"],
)
def test_the_hosts_file_is_unchanged_if_it_cannot_be_written(step_host: StepHost, trouble: str) -> None:
    """Without space, inode or permission, /etc/hosts is unchanged, and the step fails with the reason."""
    step_host.place(CARD)
    (step_host.root / "own").write_bytes(OWN)
    done = in_namespace(step_host, trouble)
    assert done.stdout == OWN
    assert done.returncode == 1
    assert b"it is left as it was" in done.stderr


def test_a_mounted_hosts_file_is_written_in_place(step_host: StepHost) -> None:
    """In a container /etc/hosts is often its own mount, over which nothing can be renamed."""
    step_host.place(CARD)
    (step_host.root / "own").write_bytes(OWN)
    done = in_namespace(step_host, "cp etc/hosts run/hosts; mount --bind run/hosts etc/hosts")
    assert done.returncode == 0, done.stderr
    assert done.stdout == OWN + BLOCK.encode()


@pytest.mark.parametrize("own", [b"", b"\n", OWN, OWN[:-1], b"a\r\nb", "名 é".encode(), OWN + b"\n\n# end"])
def test_the_hosts_file_is_restored_after_the_last_guest(step_host: StepHost, own: bytes) -> None:
    """Our block has its own lines, once, also if the last line has no newline; without guests every byte is as
    before."""
    step_host.hosts.write_bytes(own)
    step_host.place(CARD)
    for _ in range(2):
        step_host.run()
        text = step_host.hosts.read_bytes()
        assert text.startswith(own)
        assert text.count(b"192.168.233.43 web.example web\n") == 1
        assert [line for line in text.split(b"\n") if line.startswith(b"# tawara-vm: begin")]
    step_host.take_away("web")
    step_host.run("after-remove", "web", "purge")
    assert step_host.hosts.read_bytes() == own


def test_lines_after_our_block_stay(step_host: StepHost) -> None:
    """Lines that an administrator writes below our block are kept, in their order."""
    step_host.hosts.write_bytes(OWN[:-1])
    step_host.place(CARD)
    step_host.run()
    with step_host.hosts.open("ab") as hosts:
        hosts.write(b"10.0.0.8 later\n")
    step_host.run()
    step_host.take_away("web")
    step_host.run()
    assert step_host.hosts.read_bytes() == OWN + b"10.0.0.8 later\n"


def test_an_incomplete_block_is_not_changed(step_host: StepHost) -> None:
    """If the block's last line is missing, the lines below cannot be attributed: the file is left alone."""
    broken = OWN + b"# tawara-vm: begin\n192.168.233.9 old\n10.0.0.9 mine\n"
    step_host.hosts.write_bytes(broken)
    step_host.place(CARD)
    done = step_host.run(check=False)
    assert done.returncode == 1
    assert "put it right by hand" in done.stderr
    assert step_host.hosts.read_bytes() == broken


def test_the_hosts_file_keeps_owner_mode_attributes_and_link(step_host: StepHost) -> None:
    """The replacement of /etc/hosts has its owner, mode and extended attributes; a symbolic link stays one."""
    real = step_host.root / "etc/real-hosts"
    real.write_bytes(OWN)
    real.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(real, 12, 34)
    try:
        os.setxattr(real, "user.note", b"kept")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    step_host.hosts.unlink()
    step_host.hosts.symlink_to("real-hosts")
    before, inode = real.stat(), real.stat().st_ino
    step_host.place(CARD)
    step_host.run()
    after = real.stat()
    assert step_host.hosts.is_symlink()
    assert real.read_bytes() == OWN + BLOCK.encode()
    assert after.st_ino != inode
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(real, "user.note") == b"kept"
    assert [path.name for path in step_host.hosts.parent.iterdir() if "tawara-vm." in path.name] == []


def test_a_correct_file_is_not_rewritten(step_host: StepHost) -> None:
    """A second run keeps the very files of the first."""
    step_host.place(CARD)
    step_host.run()
    paths = (step_host.hosts, step_host.state / "known_hosts")
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths]
    step_host.run()
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in paths] == before


@pytest.mark.parametrize("file", ["etc/hosts", "var/lib/libvirt/dnsmasq/tw-host0.status"])
def test_a_short_write_changes_nothing(step_host: StepHost, file: str) -> None:
    """When a write is cut short, as by a quota, the file keeps its content and no temporary file stays."""
    target = step_host.root / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(OWN)
    done = step_host.shell(f"trap '' XFSZ; ulimit -f 1; replace_file {target} seq 1000")
    assert done.returncode == 1
    assert "it is left as it was" in done.stderr
    assert target.read_bytes() == OWN
    assert [path for path in target.parent.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("words", [("installed",), ("after-remove", "web", "purge"), ("before-leaving", "remove")])
def test_a_package_script_never_fails_for_lack_of_space(step_host: StepHost, words: tuple[str, ...]) -> None:
    """If /run or our directory cannot be written, the package manager gets a message, not a failure."""
    step_host.place(CARD)
    shutil.rmtree(step_host.root / "run/tawara-vm")
    (step_host.root / "run/tawara-vm").write_text("a file")
    done = step_host.run(*words)
    assert "cannot be written; nothing was done" in done.stderr
    assert step_host.run(check=False).returncode == 1
    (step_host.root / "run/tawara-vm").unlink()
    (step_host.state / "instances").write_text("a file")
    assert step_host.run(*words).returncode == 0


def test_a_lease_is_removed_from_libvirts_file(step_host: StepHost) -> None:
    """A removed guest's lease is deleted from libvirt's file; the others' stay unchanged."""
    guest = step_host.place(CARD)
    step_host.place(CARD, "stays")
    step_host.run()
    status = step_host.root / "var/lib/libvirt/dnsmasq/tw-host0.status"
    status.parent.mkdir(parents=True)
    other = {"ip-address": "192.168.233.77", "mac-address": "52:54:00:00:00:01", "expiry-time": 7}
    gone = {"ip-address": str(guest.primary.ip), "mac-address": guest.primary.mac, "expiry-time": 7}
    status.write_text(json.dumps([other, gone], indent=2) + "\n")
    status.chmod(0o600)
    step_host.take_away("web")
    # The fake network stays active as long as another guest is on it; there is no dnsmasq that could end the lease.
    step_host.run("after-remove", "web", "purge")
    assert json.loads(status.read_text()) == [other]
    assert status.stat().st_mode & 0o777 == 0o600
