"""The package of Tawara itself on a host with systemd: installed, run under its hardened units, upgraded, removed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vm.machine import Machine, why_not
else:
    _machine = sys.modules["machine"]
    Machine, why_not = _machine.Machine, _machine.why_not

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ("node", "tracker", "workers", "gateway")
EXPOSED_AT_MOST = 2.0
"""Highest score of `systemd-analyze security`."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .deb for this system's Python, built fast."""
    out = tmp_path_factory.mktemp("packages")
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    arguments = [
        *(["--installed"] if version == own else []),
        "--python",
        version,
        "--kind",
        "deb",
        "--compression",
        "none",
        "--out",
        str(out),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "deploy.packages.build", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.deb")
    return made


@pytest.fixture(scope="module")
def host(package: Path) -> Iterator[Machine]:
    """A host with systemd and the package."""
    if reason := why_not():
        pytest.skip(reason)
    with Machine(package.parent, systemd=True) as machine:
        machine.wait_for("systemd", lambda: machine.run("systemctl", "list-units", check=False).returncode == 0)
        machine.run("dpkg", "--install", str(package))
        yield machine


def ready(host: Machine) -> bool:
    """Whether all components are ready."""
    ports = "7601 7602 7603 7604"
    return "no" not in host.shell(f"for each in {ports}; do curl -sf 127.0.0.1:$each/readyz || echo no; done")


def test_the_components_run_under_their_units(host: Machine) -> None:
    """With the package, one command starts a store, whose components run without rights that they do not need."""
    host.shell("install -d -o tawara -g tawara /srv/tawara/dev1")
    host.shell("sed -i 's/^drain_seconds = .*/drain_seconds = 0/' /etc/tawara/tawara.toml")
    host.run("systemctl", "start", *(f"tawara@{each}" for each in COMPONENTS))
    host.shell("tawara domain add d && tawara class add d one --copies 1")
    host.shell("tawara host add h1 --ip 127.0.0.1 --port 7500 --state alive && tawara device add 1 --host h1")
    host.wait_for("the components", lambda: ready(host))
    host.shell("echo hello | tawara put - d/hello --class one")
    assert host.shell("curl -sf http://127.0.0.1:7080/d/hello") == "hello\n"
    for each in COMPONENTS:
        unit = f"tawara@{each}.service"
        assert host.shell(f"ps -o user= -p $(systemctl show -P MainPID {unit})").strip() == "tawara"
        text = host.shell(f"systemd-analyze security --no-pager {unit} | tail -1")
        assert float(text.split(":")[1].split()[0]) <= EXPOSED_AT_MOST, text
        assert host.run("systemd-analyze", "verify", "--man=no", unit, check=False).stderr == ""
    host.run("systemctl", "reload", "tawara@tracker")
    host.wait_for("the reload", lambda: "configuration_reloaded" in host.shell("journalctl -u tawara@tracker"))


def test_a_process_that_ends_is_started_again(host: Machine) -> None:
    """A killed component is back within seconds, on its kept listening socket."""
    before = host.shell("systemctl show -P MainPID tawara@node").strip()
    host.shell(f"kill -9 {before}")
    host.wait_for("the node", lambda: host.shell("systemctl show -P MainPID tawara@node").strip() not in (before, "0"))
    assert host.shell("curl -s http://127.0.0.1:7080/d/hello") == "hello\n"


def test_documentation_and_completions(host: Machine) -> None:
    """Each command has a manual page, and the shells complete."""
    listed = host.shell("dpkg --listfiles tawara").splitlines()  # with what this host's dpkg leaves out
    assert {"/usr/share/man/man1/tawara.1", "/usr/share/man/man1/tawara-device.1"} <= set(listed)
    host.shell("bash -n /usr/share/bash-completion/completions/tawara")


@pytest.mark.slow
def test_upgrade_and_removal_keep_data(host: Machine, package: Path) -> None:
    """Installing again restarts what runs; removing the package leaves configuration and data, and no process."""
    host.shell("echo '# mine' >>/etc/tawara/tawara.toml")
    key = host.shell("cat /etc/tawara/secret.key")
    host.run("dpkg", "--install", str(package))
    host.wait_for("the components", lambda: ready(host))
    assert host.shell("curl -sf http://127.0.0.1:7080/d/hello") == "hello\n"
    host.run("dpkg", "--remove", "tawara")
    assert host.shell("pgrep -u tawara || true") == ""
    assert host.shell("find /usr/lib/tawara 2>/dev/null || true") == ""
    assert host.shell("tail -1 /etc/tawara/tawara.toml; cat /etc/tawara/secret.key") == f"# mine\n{key}"
    assert host.shell("find /srv/tawara -name '*.fid'") != ""
    assert host.shell("ls /var/lib/tawara/tawara.db").strip()
