"""A temporary "host" for packages: namespaces over a copy-on-write view of this machine's files. apt, dnf and libvirt
inside are real; when the machine ends, its processes are killed by the kernel and its files are removed, so that no
test changes the machine that runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PATIENCE = 300.0
"""Seconds that anything may take on a machine that is busy with other things; what takes longer hangs."""

_PROJECT = Path(__file__).resolve().parents[2]
_NAMESPACES = ("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child")

_START = """
set -e
mount --make-rprivate /
mount -t tmpfs -o size=6g,mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=0755 run run
mount -t tmpfs -o mode=1777 tmp tmp
# Where /dev/kvm is there and not open to QEMU's user, libvirt believes none of its probes of QEMU: whenever a guest is
# defined it creates a dozen, a second each. And what the machine's udev does with its own does not stay behind.
if [ -c dev/kvm ] && cp -a dev/kvm run/kvm; then
    chmod 0666 run/kvm
    mount --bind run/kvm dev/kvm
fi
mkdir -p run/lock run/libvirt mnt/old "$1/root/$2"
mount --rbind "$2" "$1/root/$2"
[ -d "$1/root/$4" ] || { mkdir -p "$1/root/$4"; mount --rbind "$4" "$1/root/$4"; }  # it is below /tmp, or a mount
pivot_root . mnt/old
cd /
umount -l /mnt/old
hostname vmhost
printf '[Unit]\\nRequires=libvirtd.service\\nAfter=libvirtd.service\\n' >/etc/systemd/system/test.target
ip link set lo up
touch /run/ready
[ -z "$3" ] || {
    mount -t tmpfs -o mode=0755 cgroup /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir "/sys/fs/cgroup/$3"
    echo 0 >"/sys/fs/cgroup/$3/cgroup.procs"
    umount /sys/fs/cgroup
    export container=tawara-test
    exec unshare --cgroup sh -c "mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec /lib/systemd/systemd --unit=test.target"
}
# bash reaps what the daemons leave behind, as an init must: libvirt waits for its children to be gone.
while :; do sleep 1000 & wait $!; done
"""


def why_not() -> str:
    """Why this user cannot have such machines on this host; empty if it can, as root always can."""
    if os.geteuid() == 0:
        return ""
    done = subprocess.run([*_NAMESPACES, "true"], capture_output=True, text=True, check=False)
    return f"only root can make the namespaces that stand for a host ({done.stderr.strip()})" if done.returncode else ""


class Machine:
    """Use it in a `with`; `run` runs a command inside."""

    def __init__(self, shared: Path, *, systemd: bool = False) -> None:
        self.shared = shared
        """A folder that is the same inside and outside."""
        self.systemd = systemd
        """Is systemd the machine's first process, with libvirtd as its only service?"""
        self.folder = Path(tempfile.mkdtemp(prefix="machine-", dir=shared.parent))
        self.holder: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Machine:
        # A test run that is killed leaves no machine behind: setpriv ends it with us, and unshare all that is in it.
        command = ["setpriv", "--pdeathsig", "KILL", *_NAMESPACES]
        command += ["bash", "-c", _START, "bash", str(self.folder), str(self.shared)]
        command += [self.folder.name if self.systemd else "", str(_PROJECT)]
        said = self.folder / "start.log"
        with said.open("wb") as log:
            self.holder = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        try:
            self.wait_for(
                "the machine's first process", lambda: bool(self._alive(said) and children.read_text().split())
            )
            self.pid = int(children.read_text().split()[0])
            ready = Path(f"/proc/{self.pid}/root/run/ready")
            self.wait_for("the machine", lambda: self._alive(said) and ready.exists())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _alive(self, said: Path) -> bool:
        assert self.holder is not None
        if self.holder.poll() is not None:
            raise AssertionError(f"the machine did not start: {said.read_text(errors='replace')}")
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.holder is not None
        # The machine's first process takes every other one of its pid namespace along.
        with suppress(ProcessLookupError):
            os.kill(self.pid or self.holder.pid, signal.SIGKILL)
        self.holder.wait()
        for daemon in self.daemons:
            daemon.wait()
        if self.systemd:
            _remove_cgroup(self.folder.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words: str) -> list[str]:
        """The command line to run in the machine."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", "-r", "-w", "--", *words]

    def run(
        self, *words: str, check: bool = True, timeout: float = PATIENCE, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, errors="replace", timeout=timeout, input=stdin
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def shell(self, script: str, *, check: bool = True, timeout: float = PATIENCE) -> str:
        """Run a line of shell inside; return its output."""
        return self.run("bash", "-c", script, check=check, timeout=timeout).stdout

    def ssh(self, name: str, command: str, *, check: bool = True) -> str:
        """Run a command in a guest over ssh, with its host key checked; return its output."""
        options = ("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
        return self.run("ssh", *options, f"root@{name}", command, check=check).stdout.strip()

    def wait_for_ssh(self, name: str) -> float:
        """Wait until ssh to a guest works; return the seconds that it took."""
        return self.wait_for(f"ssh to {name}", lambda: self.ssh(name, "echo in", check=False) == "in")

    def start_libvirt(self) -> None:
        """Start virtlogd and libvirtd, as a system without systemd does."""
        if self.systemd:
            self.wait_for("libvirt", lambda: self.run("virsh", "list", check=False).returncode == 0)
            return
        self.shell("rm -f /etc/libvirt/qemu/autostart/* /etc/libvirt/qemu/networks/autostart/*")
        for name in ("virtlogd", "libvirtd"):
            with (self.folder / f"{name}.log").open("wb") as log:
                words = self.command(name)
                self.daemons.append(subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        self.wait_for("libvirt", lambda: self.run("virsh", "list", check=False).returncode == 0)

    def stop_libvirt(self) -> None:
        """Stop libvirt's daemons; guests continue."""
        for daemon in reversed(self.daemons):
            for pid in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split():
                os.kill(int(pid), signal.SIGTERM)
            daemon.wait(PATIENCE)
        self.daemons.clear()

    def wait_for(self, what: str, test: Callable[[], bool], seconds: float = PATIENCE) -> float:
        """Wait until the test succeeds; return how long it took."""
        start = time.monotonic()
        while not test():
            if time.monotonic() - start > seconds:
                raise AssertionError(f"waited {seconds} s for {what}")
            time.sleep(0.1)
        return time.monotonic() - start


def _remove_cgroup(name: str) -> None:
    """Remove the control groups of an ended machine."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[2] == "cgroup2"]
    for place in places:
        for folder, _, _ in os.walk(f"{place}/{name}", topdown=False):
            Path(folder).rmdir()
