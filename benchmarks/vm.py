"""Packaged machines: what building, installing and removing take, how large they are, and what an idle guest costs.

    python -m benchmarks.vm [--seconds 60] [--base tiny] [--cache DIR] [--no-peers]

Beside it, in the same run, the peers that Debian has: virt-customize (guestfs-tools) makes the same changes to the same
image, mkosi builds a Debian of the same packages (below systemd, on a host of its own). Processor time is that of all
processes begun for it and, unlike time, tells little of who else uses the machine. The guests run on a throw-away host
(tests/vm/machine.py), which needs root. KVM is used only where it works.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.idle import Account
from tawara.vm.base_image import Base, build_base
from tawara.vm.bases import RECIPES
from tawara.vm.build import Built, Options, build_epoch, build_file, build_guest
from tawara.vm.built import Register
from tawara.vm.delta import build_delta
from tawara.vm.foreign.appliance import appliance, environment
from tawara.vm.host_keys import host_key
from tawara.vm.spec_read import read_guest
from tests.vm.machine import Machine, why_not

TEMPLATE_MB = 276
"""virt-builder's compressed debian-12 template, as its index tells; it is downloaded, not built."""
DESCRIPTION = """\
name = "{name}"
fqdn = "{name}.example"
base = "{base}"
authorized_keys = ["{key}"]

[[nic]]
network = "nat0"

[[file]]
path = "/etc/motd"
content = "hello\\n"
"""
TAWARA = str(Path(sys.executable).parent / "tawara")
PERIODIC = "nohz=off highres=off"
"""A kernel told so wakes its host 250 times a second."""


@dataclass
class Cost:
    """What something took: seconds, and seconds of processor time."""

    wall: float = 0.0
    cpu: float | None = None
    """None where the work is not our children's."""


@contextmanager
def costing() -> Iterator[Cost]:
    """Measure a block, this process and its children."""
    cost = Cost()
    before, start = _processor(), time.monotonic()
    yield cost
    cost.wall, cost.cpu = time.monotonic() - start, _processor() - before


def _processor() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in both)


def tell(what: str, cost: Cost | None = None, note: str = "") -> None:
    """One line of the table."""
    wall = f"{cost.wall:8.2f} s" if cost else ""
    processor = f"{cost.cpu:8.2f} s of processor" if cost and cost.cpu is not None else ""
    print(f"{what:<46} {wall:>10} {processor:>23}   {note}".rstrip(), flush=True)


def silent(what: str) -> None:
    """Report no progress."""


class Shop:
    """A folder to build in, and a cache that others may have filled."""

    def __init__(self, folder: Path, cache: Path, base: str) -> None:
        self.folder, self.cache, self.base = folder, cache, base
        self.key = folder / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        self.public = self.key.with_suffix(".pub").read_text().strip()
        self.options = Options(folder / "dist", cache, silent, build_epoch())

    def build(self, name: str) -> Built:
        """One guest's packages and the repository."""
        path = self.folder / f"{name}.toml"
        path.write_text(DESCRIPTION.format(name=name, base=self.base, key=self.public))
        return build_file(path, self.options)

    def bases(self) -> Base:
        """The base that guests here stand on."""
        return build_base(RECIPES[self.base], self.cache, self.options.epoch, silent)


def building(shop: Shop, bases: list[str]) -> None:
    """From nothing to packages, and what more guests take."""
    for name in bases:
        with tempfile.TemporaryDirectory(dir=shop.folder) as fresh, costing() as cost:
            build_base(RECIPES[name], Path(fresh), shop.options.epoch, silent)
        tell(f"{name}: base from nothing", cost)
        other = Shop(Path(tempfile.mkdtemp(dir=shop.folder)), shop.cache, name)
        other.bases()
        shutil.rmtree(other.bases().folder / "packages", ignore_errors=True)
        with costing() as first:
            built = other.build("one")
        sizes = [path.stat().st_size / 1e6 for path in built.packages if "tawara-base-" in path.name]
        tell(f"{name}: a first guest, with the base's packages", first, f"base packed: {max(sizes):.1f} MB")
        with costing() as second:
            built = other.build("two")
        guest = max(path.stat().st_size for path in built.packages if "tawara-guest-" in path.name)
        note = f"delta {built.delta_bytes / 1e3:.0f} KB, guest package {guest / 1e3:.0f} KB"
        tell(f"{name}: one more guest, and the repository", second, note)
        _another_kind(other, name)


def _another_kind(shop: Shop, name: str) -> None:
    """A delta by itself, and with its packages, without the repository's index."""
    text = DESCRIPTION.format(name="three", base=name, key=shop.public).replace("hello", "another kind")
    guest, key = read_guest(text, "three.toml", "three"), host_key(shop.folder / "three.keys")
    out = shop.folder / "delta.qcow2"
    with costing() as cost:
        build_delta(guest, shop.bases(), RECIPES[name], out, shop.options.epoch, silent)
    tell(f"{name}: a delta", cost, f"{out.stat().st_size / 1e3:.0f} KB")
    with costing() as cost:
        build_guest(guest, key, shop.options, Register(shop.options.out))
    tell(f"{name}: a delta and its guest's packages", cost)


def peers(shop: Shop) -> None:
    """The same by what Debian has."""
    tell("virt-builder: its debian-12 template", note=f"{TEMPLATE_MB} MB to download (known figure)")
    if shutil.which("virt-customize") is None:
        tell("virt-customize", note="not installed: apt install guestfs-tools")
    else:
        _virt_customize(shop)
    if shutil.which("mkosi") is None:
        tell("mkosi", note="not installed: apt install mkosi")
    elif reason := why_not():
        tell("mkosi", note=f"not measured: {reason}")
    else:
        _mkosi(shop)


def _virt_customize(shop: Shop) -> None:
    """Name, key and file of our guest, written into an overlay over our debian12."""
    base = build_base(RECIPES["debian12"], shop.cache, shop.options.epoch, silent)
    kernel = appliance(shop.cache, silent)
    overlay = shop.folder / "peer.qcow2"
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base.folder / "disk.qcow2")]
    subprocess.run([*create, str(overlay)], check=True)
    words = ["virt-customize", "--quiet", "--no-network", "--format", "qcow2", "-a", str(overlay)]
    words += ["--hostname", "one.example", "--write", "/etc/motd:hello"]
    words += ["--ssh-inject", f"root:file:{shop.key.with_suffix('.pub')}"]
    with costing() as cost:
        subprocess.run(words, env=environment(kernel), check=True, capture_output=True)
    tell("virt-customize: the same changes to debian12", cost, f"overlay {overlay.stat().st_size / 1e3:.0f} KB")


def _mkosi(shop: Shop) -> None:
    """A Debian of our debian12's packages and kernel, as a tree; mkosi needs systemd, which a throw-away host has."""
    packages = ",".join([*RECIPES["debian12"].packages, RECIPES["debian12"].kernel])
    build = f"mkosi -d debian -r bookworm -t tar --compress-output no -p {packages} -o /root/mkosi.tar build"
    script = f"cd /root; TIMEFORMAT='%R %U %S'; time {build} >log 2>&1 && stat -c %s mkosi.tar || tail -n 1 log"
    service = ["systemd-run", "--quiet", "--wait", "--pipe", "-p", "Delegate=yes"]
    with Machine(shop.folder, systemd=True) as host:
        # The host's own network leads nowhere; packages come over this machine's.
        outside = "touch /run/outside; mount --bind /proc/self/ns/net /run/outside"
        inside_but_for_network = [word for word in host.command("sh", "-c", outside) if word != "-n"]
        subprocess.run(inside_but_for_network, check=True)
        host.wait_for("systemd", lambda: host.run("systemctl", "start", "dbus", check=False).returncode == 0)
        service += ["-p", "NetworkNamespacePath=/run/outside", "bash", "-c", script]
        done = host.run(*service, check=False, timeout=1800)
    said = done.stdout.strip()
    wall, user, system = map(float, done.stderr.split()[-3:])
    note = f"{int(said) / 1e6:.0f} MB, not packed" if said.isdigit() else f"failed: {said}"
    tell("mkosi: debian12's packages and kernel, as tar", Cost(wall, user + system), note)


def running(shop: Shop, seconds: float) -> None:
    """Install, log in, look at idle guests, remove."""
    shop.build("one")
    with Machine(shop.folder) as host:
        host.start_libvirt()
        host.shell(f"mkdir -p -m 700 /root/.ssh; cp {shop.key} /root/.ssh/id_ed25519; rm -f /root/.ssh/known_hosts")
        host.shell(
            "rm -f /etc/apt/sources.list.d/*; echo 'APT::Sandbox::User \"root\";' >/etc/apt/apt.conf.d/99bench; "
            f"echo 'deb [trusted=yes] file:{shop.options.out} ./' >/etc/apt/sources.list.d/bench.list; "
            "apt-get -q update"
        )
        start = time.monotonic()
        host.shell("apt-get -y -q install tawara-guest-one", timeout=600)
        installed = time.monotonic() - start
        _wait_for_ssh(host, "one")
        whole = time.monotonic() - start
        (pid,) = _guests(host).values()
        spent = Account.of([pid]).seconds
        kind = host.shell("cat /run/tawara-vm/accelerator").strip()
        tell(f"{shop.base}: apt install, until it returns", Cost(installed))
        tell(
            f"{shop.base}: apt install, until ssh lets in", Cost(whole, spent), f"the guest's processor time, by {kind}"
        )
        for name in ("two", "tick"):
            host.run(TAWARA, "vm", "create", name, "--from", "one", timeout=600)
            _wait_for_ssh(host, name)
        _make_periodic(host, "tick")
        idle(host, seconds)
        for name in ("two", "tick"):
            host.run(TAWARA, "vm", "rm", name)
        start = time.monotonic()
        host.shell("apt-get -y -q purge tawara-guest-one", timeout=600)
        tell(f"{shop.base}: apt purge, a running guest", Cost(time.monotonic() - start))


def _make_periodic(host: Machine, name: str) -> None:
    """The same guest, its kernel told to tick."""
    host.shell(
        f"virsh destroy {name}; virsh dumpxml --inactive {name} "
        f"| sed 's|</cmdline>| {PERIODIC}</cmdline>|' >/tmp/tick.xml; virsh define /tmp/tick.xml; virsh start {name}"
    )
    _wait_for_ssh(host, name)


def idle(host: Machine, seconds: float) -> None:
    """Processor time and memory of idle guests."""
    time.sleep(20)  # until what a boot leaves behind is done
    guests = _guests(host)
    before = {name: Account.of([pid]) for name, pid in guests.items()}
    time.sleep(seconds)
    for name, pid in sorted(guests.items()):
        after = Account.of([pid])
        share = 100 * (after.seconds - before[name].seconds) / (after.at - before[name].at)
        what = "with a periodic tick" if name == "tick" else "as installed"
        print(f"idle guest {name}, {what}: {share:.2f} % of a core, {after.memory().strip()}", flush=True)
    whole = Account.of(list(guests.values()))
    print(f"three idle guests together: {whole.memory().strip()}", flush=True)


def _guests(host: Machine) -> dict[str, int]:
    """The running guests and the pids of their QEMUs, as seen from outside."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            inside = (path.parent / "ns" / "pid").readlink() == Path(f"/proc/{host.pid}/ns/pid").readlink()
        except OSError:
            continue
        if inside and b"qemu-system" in words[0] and b"-name" in words:
            name = words[words.index(b"-name") + 1].decode()
            found[name.removeprefix("guest=").split(",")[0]] = int(path.parent.name)
    return found


def _wait_for_ssh(host: Machine, name: str) -> None:
    options = ("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3")
    words = ("ssh", *options, f"root@{name}.example", "true")
    host.wait_for(f"ssh to {name}", lambda: host.run(*words, check=False).returncode == 0, 600)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look at idle guests")
    parser.add_argument("--base", default="tiny", choices=sorted(RECIPES), help="of the guests that are installed")
    parser.add_argument(
        "--cache", type=Path, help="where bases are kept between runs; building them is measured anyway"
    )
    parser.add_argument("--no-peers", action="store_true", help="measure ours alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tawara-bench-vm-", dir="/var/tmp") as name:
        folder = Path(name)
        shop = Shop(folder, options.cache or folder / "cache", options.base)
        building(shop, ["tiny", "debian12"])
        if not options.no_peers:
            peers(shop)
        if os.geteuid():
            print("Installing was not measured: the throw-away host needs root.")
        else:
            running(shop, options.seconds)


if __name__ == "__main__":
    main()
