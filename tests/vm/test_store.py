"""Tawara's own store as one package: three guests, used from the host, that lose no file when one is killed."""

from __future__ import annotations

import hashlib
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.conftest import Workshop
    from tests.vm.machine import Machine

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
TAWARA = str(Path(sys.executable).parent / "tawara")
TRACKER = "head.store.example:7001"
GATEWAY = "http://head.store.example:7080"
GUESTS = ("head", "node1", "node2")
FILES = {f"files/{number}.bin": random.Random(number).randbytes(number * 70_000) for number in range(1, 9)}
"""The even ones are stored through the tracker protocol, the odd ones through the gateway."""


def tawara(host: Machine, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command of Tawara on the host, through the tracker protocol."""
    return host.run(TAWARA, *words, "--tracker", TRACKER, check=check)


def fetched(host: Machine, command: str) -> str:
    """The digest of a command's output; its message when it fails."""
    done = host.run("bash", "-c", f"set -o pipefail; {command} | sha256sum", check=False)
    return done.stdout.split()[0] if done.returncode == 0 else done.stderr.strip()


def wrong(host: Machine) -> list[str]:
    """The files that are not returned as stored, in both ways."""
    ways = {"tracker": f"{shlex.quote(TAWARA)} get --tracker {TRACKER} {{}} -", "gateway": f"curl -fsS {GATEWAY}/{{}}"}
    found = [(key, way, fetched(host, command.format(key))) for key in FILES for way, command in ways.items()]
    return [f"{key} by the {way}: {came}" for key, way, came in found if came != digest(FILES[key])]


def digest(data: bytes) -> str:
    """A SHA-256."""
    return hashlib.sha256(data).hexdigest()


def is_well(host: Machine) -> bool:
    """Whether the tracker reports both storage nodes, and no problem."""
    done = tawara(host, "status", "--json", check=False)
    return done.returncode == 0 and len(json.loads(done.stdout)["devices"]) == 2


def replicas(host: Machine, key: str) -> int:
    """The number of good replicas of a file."""
    done = tawara(host, "info", key, "--json", check=False)
    return len(json.loads(done.stdout)["replicas"]) if done.returncode == 0 else 0


def test_one_package_installs_a_store(host: Machine, workshop: Workshop) -> None:
    """Installing one package is enough: three guests of 256 MB start and the tracker reports no problem."""
    subprocess.run([ROOT / "examples" / "store" / "collect"], check=True, cwd=ROOT)
    public = workshop.key.with_suffix(".pub").read_text().strip()
    text = (ROOT / "examples" / "store" / "store.toml").read_text()
    text = text.replace("# authorized_keys = [", f'authorized_keys = ["{public}"] # ')
    workshop.build("store", text.replace("../../build/site", str(ROOT / "build" / "site")), keyed=False)
    host.run("apt-get", "-y", "-q", "update")
    host.run("apt-get", "-y", "-q", "install", "tawara-cluster-store", timeout=900)
    assert sorted(host.run("virsh", "list", "--name").stdout.split()) == sorted(GUESTS)
    for name in GUESTS:
        assert int(host.shell(f"virsh dominfo {name} | awk '/Max memory/ {{print $3}}'")) == 256 * 1024
    host.wait_for("the store", lambda: is_well(host), 900)


def test_files_are_exchanged_between_tracker_and_gateway(host: Machine, workshop: Workshop) -> None:
    """Files stored through the tracker are read from the gateway, and the other way round."""
    host.wait_for_ssh("head.store.example")
    key = host.ssh("head.store.example", "cat /data/secret.key")
    # A gateway that has just begun to look around says 503 until it has seen a device.
    first = f"echo first | curl -fsS -T - -H 'Authorization: Bearer {key}' {GATEWAY}/files/first"
    host.wait_for("the gateway to take files", lambda: host.run("sh", "-c", first, check=False).returncode == 0)
    for number, (name, data) in enumerate(FILES.items(), start=1):
        path = workshop.folder / f"{number}.bin"
        path.write_bytes(data)
        if number % 2:
            header = f"Authorization: Bearer {key}"
            host.run("curl", "-fsS", "-T", str(path), "-H", header, f"{GATEWAY}/{name}")
        else:
            tawara(host, "put", str(path), name)
    assert not wrong(host)
    host.wait_for("two replicas of each", lambda: all(replicas(host, name) == 2 for name in FILES), 600)


@pytest.mark.parametrize("victim", ["node1", "node2"])
def test_files_survive_a_storage_guest(host: Machine, victim: str) -> None:
    """With either storage guest switched off, all files can be read; and also after it has returned."""
    host.run("virsh", "destroy", victim)
    host.wait_for("the files without it", lambda: not wrong(host), 600)
    host.run("virsh", "start", victim)
    host.wait_for("its return", lambda: is_well(host), 900)
    assert not wrong(host)
    assert all(replicas(host, name) == 2 for name in FILES)


def test_files_survive_a_restart_of_the_tracker_guest(host: Machine) -> None:
    """The guest with the database is switched off and on: every acknowledged file exists."""
    host.run("virsh", "destroy", "head")
    host.run("virsh", "start", "head")
    host.wait_for("its return", lambda: is_well(host), 900)
    host.wait_for("the gateway", lambda: not wrong(host), 600)


def test_no_unit_failed_and_no_memory_was_exhausted(host: Machine) -> None:
    """No unit of any guest has failed, and no kernel had to kill for memory."""
    for name in GUESTS:
        assert host.ssh(f"{name}.store.example", "systemctl --failed --no-legend") == ""
        assert host.ssh(f"{name}.store.example", "journalctl -k --no-pager | grep -ci 'out of memory' || true") == "0"


def test_removing_the_package_removes_the_store(host: Machine) -> None:
    """After the meta package's purge there is no guest, network or disk of it."""
    host.run("apt-get", "-y", "-q", "purge", "tawara-cluster-store", timeout=900)
    left = host.shell("virsh list --all --name; virsh net-list --all --name; cat /etc/hosts; ps ax -o comm")
    for trace in (*GUESTS, "store", "qemu"):
        assert trace not in left
    assert host.run("ls", "/var/lib/tawara-vm/instances", check=False).returncode != 0
