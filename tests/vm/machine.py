"""A throw-away "host" for packages: namespaces over a copy-on-write view of this machine's files.

What apt, dnf and libvirt do inside is real; when the machine ends, its processes are killed by the kernel and its files
are gone, so nothing that a test does can stay behind on the machine that runs the tests.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

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
mkdir -p run/lock run/libvirt mnt/old "$1/root/$2"
mount --rbind "$2" "$1/root/$2"
pivot_root . mnt/old
cd /
umount -l /mnt/old
hostname vmhost
ip link set lo up
touch /run/ready
# bash reaps what the daemons leave behind, as an init must: libvirt waits for its children to be gone.
while :; do sleep 1000 & wait $!; done
"""


class Machine:
    """Use it in a `with`; `run` runs a command inside."""

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        """A folder that is the same inside and outside."""
        self.folder = Path(tempfile.mkdtemp(prefix="tawara-vm-machine-", dir="/var/tmp"))
        self.holder: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Machine:
        namespaces = ["--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        command = ["unshare", *namespaces, "bash", "-c", _START, "bash", str(self.folder), str(self.shared)]
        self.holder = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children")
        self.wait_for("the machine's first process", lambda: bool(children.read_text().split()))
        self.pid = int(children.read_text().split()[0])
        self.wait_for("the machine", lambda: Path(f"/proc/{self.pid}/root/run/ready").exists())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.holder is not None
        # The machine's first process takes every other one of its pid namespace along.
        subprocess.run(["kill", "-KILL", str(self.pid)], check=False)
        self.holder.wait()
        for daemon in self.daemons:
            daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self, *words: str) -> list[str]:
        """The command line, led into the machine."""
        return ["nsenter", "-t", str(self.pid), "-m", "-n", "-p", "-u", "-i", "-r", "-w", "--", *words]

    def run(
        self, *words: str, check: bool = True, timeout: float = 240, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, errors="replace", timeout=timeout, input=stdin
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def shell(self, script: str, *, check: bool = True, timeout: float = 240) -> str:
        """Run a line of shell inside; what it said."""
        return self.run("bash", "-c", script, check=check, timeout=timeout).stdout

    def start_libvirt(self) -> None:
        """Start virtlogd and libvirtd, as a system without systemd would."""
        self.shell("rm -f /etc/libvirt/qemu/autostart/* /etc/libvirt/qemu/networks/autostart/*")
        for name in ("virtlogd", "libvirtd"):
            with (self.folder / f"{name}.log").open("wb") as log:
                words = self.command(name)
                self.daemons.append(subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL))
        self.wait_for("libvirt", lambda: self.run("virsh", "list", check=False).returncode == 0, 60)

    def stop_libvirt(self) -> None:
        """Stop libvirt's daemons; guests run on."""
        self.shell("pkill -x libvirtd; pkill -x virtlogd", check=False)
        for daemon in self.daemons:
            daemon.wait(30)
        self.daemons.clear()

    def wait_for(self, what: str, test: Callable[[], bool], seconds: float = 20) -> float:
        """Wait until the test holds; gives how long it took."""
        start = time.monotonic()
        while not test():
            if time.monotonic() - start > seconds:
                raise AssertionError(f"waited {seconds} s for {what}")
            time.sleep(0.1)
        return time.monotonic() - start
