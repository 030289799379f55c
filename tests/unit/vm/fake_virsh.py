"""A virsh without libvirt: domains and networks are entries of a file. For tests of the commands of the host's step. It
refuses what libvirt refuses (starting a running domain, undefining a saved domain without an option for its memory),
and records each command. `obeys` of a domain says whether it shuts down when asked to.

The program that the step runs only passes its words on to a server in the test's process: an interpreter of its own for
each command would take most of the tests' time."""

from __future__ import annotations

import marshal
import socketserver
import threading
from collections.abc import MutableSequence, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

REASONS = {"saved": "saved", "io-error": "I/O error", "paused": "user"}
_CLIENT = """\
#!/bin/bash
# The words go to the server as they are; it answers with exit code, output and error output.
exec 3<>/dev/tcp/127.0.0.1/{port}
printf '%s\\0' {file} $# "$@" >&3
IFS= read -r -d '' code <&3
IFS= read -r -d '' out <&3
IFS= read -r -d '' error <&3
printf %s "$out"
printf %s "$error" >&2
exit "$code"
"""


class VirshError(Exception):
    """A command failed."""


def fail(what: str) -> NoReturn:
    """Fail as virsh does."""
    raise VirshError(f"error: {what}\n")


def between(text: str, before: str, after: str) -> str:
    """The text between the first `before` and the following `after`."""
    return text.partition(before)[2].partition(after)[0]


def element(xml: str, name: str) -> str:
    """The text of the first element of this name."""
    return between(xml, f"<{name}>", "<")


def client_script(file: Path) -> str:
    """Return the program `virsh` of a host whose libvirt is in this file."""
    return _CLIENT.format(port=_server().server_address[1], file=file)


@cache
def _server() -> socketserver.TCPServer:
    """The server of this process; it ends with it."""
    server = socketserver.TCPServer(("127.0.0.1", 0), _Handler)  # one command after another
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class _Handler(socketserver.StreamRequestHandler):
    """One command."""

    def handle(self) -> None:
        """Read the words, run the command, answer."""
        file = self._read()
        words = [self._read() for _ in range(int(self._read()))]
        answer = run_command(
            Path(file), [word for word in words if word not in ("--quiet", "--connect", "qemu:///system", "-c")]
        )
        self.wfile.write(b"".join(f"{part}\0".encode() for part in answer))

    def _read(self) -> str:
        word = bytearray()
        while (byte := self.rfile.read(1)) != b"\0":
            if not byte:
                raise EOFError("the client ended in the middle of a command")
            word += byte
        return word.decode()


def run_command(file: Path, words: list[str]) -> tuple[int, str, str]:
    """Run one command on the state in the file; return exit code, output and error output."""
    fake = FakeLibvirt(marshal.loads(file.read_bytes()), words)
    fake.state.setdefault("log", []).append(" ".join(words))
    code, error = 0, ""
    try:
        fake.run()
    except VirshError as failure:
        code, error = 1, str(failure)
    file.write_bytes(marshal.dumps(fake.state))
    return code, "".join(fake.output), error


class FakeLibvirt:
    """The state of libvirt, and one command on it."""

    def __init__(self, state: dict[str, Any], words: Sequence[str]) -> None:
        self.state = state
        self.domains: dict[str, Any] = state["domains"]
        self.networks: dict[str, Any] = state["networks"]
        self.command = words[0]
        self.arguments = [word for word in words[1:] if not word.startswith("--")]
        self.options = {word for word in words[1:] if word.startswith("--")}
        self.output: MutableSequence[str] = []

    def say(self, *words: str, sep: str = " ") -> None:
        """Write a line of output."""
        self.output.append(sep.join(words) + "\n")

    def domain(self, name: str) -> dict[str, Any]:
        """A domain by name."""
        if name not in self.domains:
            fail(f"failed to get domain '{name}'")
        found: dict[str, Any] = self.domains[name]
        return found

    def network(self, name: str) -> dict[str, Any]:
        """A network by name."""
        if name not in self.networks:
            fail(f"failed to get network '{name}'")
        found: dict[str, Any] = self.networks[name]
        return found

    def run(self) -> None:
        """Run the command."""
        if self.state.get("refused"):
            fail("failed to connect to the hypervisor: authentication unavailable")
        getattr(self, self.command.replace("-", "_"))(*self.arguments)

    def list(self) -> None:
        """The names of the domains selected by the options."""
        for name, domain in self.domains.items():
            is_active = domain["is"] not in ("off", "saved")
            if "--with-managed-save" in self.options and domain["is"] != "saved":
                continue
            if "--autostart" in self.options and not domain.get("autostart"):
                continue
            if "--persistent" in self.options and domain.get("transient"):
                continue
            if is_active or "--all" in self.options:
                self.say(*([element(domain["xml"], "uuid")] if "--uuid" in self.options else []), name)

    def domstate(self, name: str) -> None:
        """libvirt's state of the domain, with its reason if requested."""
        domain = self.domain(name)
        if domain["is"] == "shutting-down":
            domain["ends_after"] -= 1
            if domain["ends_after"] <= 0:
                domain["is"] = "off"
        word = domain["is"]
        names = {"off": "shut off", "saved": "shut off", "io-error": "paused", "shutting-down": "in shutdown"}
        names["asleep"] = "pmsuspended"
        self.say(names.get(word, word) + (f" ({REASONS.get(word, 'unknown')})" if "--reason" in self.options else ""))

    def domuuid(self, name: str) -> None:
        """The uuid."""
        self.say(element(self.domain(name)["xml"], "uuid"))

    def dumpxml(self, name: str) -> None:
        """The definition."""
        self.say(self.domain(name)["xml"])

    def domblklist(self, name: str) -> None:
        """Targets and sources."""
        domain = self.domain(name)
        disk = domain.get("disk") or between(domain["xml"], '<source file="', '"')
        self.say(f" vda   {disk}")

    def define(self, path: str) -> None:
        """Define or redefine."""
        xml = Path(path).read_text()
        name, uuid = element(xml, "name"), element(xml, "uuid")
        old = self.domains.get(name)
        if old and element(old["xml"], "uuid") != uuid:
            fail(f"operation failed: domain '{name}' already exists with uuid {element(old['xml'], 'uuid')}")
        self.domains[name] = {**(old or {"is": "off", "obeys": True, "snapshots": {}}), "xml": xml, "transient": False}

    def undefine(self, name: str) -> None:
        """Undefine a domain; a running one is transient from then on."""
        domain = self.domain(name)
        if domain["is"] == "saved" and "--managed-save" not in self.options:
            fail("Requested operation is not valid: Refusing to undefine while domain managed save image exists")
        if domain["snapshots"] and "--snapshots-metadata" not in self.options:
            fail("Requested operation is not valid: cannot delete inactive domain with snapshots")
        if domain["is"] in ("off", "saved"):
            del self.domains[name]
        else:
            domain["transient"] = True

    def autostart(self, name: str) -> None:
        """Enable or disable libvirt's own start at boot."""
        self.domain(name)["autostart"] = "--disable" not in self.options

    def start(self, name: str) -> None:
        """Start or resume from a managed save."""
        domain = self.domain(name)
        if domain["is"] == "saved" and domain.get("broken"):
            fail("operation failed: cannot restore the saved memory")
        if domain["is"] not in ("off", "saved"):
            fail("Domain is already active")
        # Memory that is resumed over other disks than it was saved with ruins their file systems.
        if domain["is"] == "saved":
            self.state["resumed"] = [*self.state.get("resumed", []), name]
        domain["is"] = "running"
        self.state["started"] = [*self.state.get("started", []), name]

    def managedsave_remove(self, name: str) -> None:
        """Delete the saved memory."""
        if self.domain(name)["is"] == "saved":
            self.domain(name)["is"] = "off"

    def shutdown(self, name: str) -> None:
        """Press the power button; only a running domain notices."""
        domain = self.domain(name)
        if domain["is"] in ("off", "saved"):
            fail("Requested operation is not valid: domain is not running")
        if domain["is"] == "running" and domain["obeys"]:
            self.went_off(name)

    def destroy(self, name: str) -> None:
        """End the domain at once."""
        if self.domain(name)["is"] in ("off", "saved"):
            fail("Requested operation is not valid: domain is not running")
        self.state["destroyed"] = [*self.state.get("destroyed", []), name]
        self.went_off(name)

    def went_off(self, name: str) -> None:
        """Remove a transient domain when it ends."""
        self.domains[name]["is"] = "off"
        if self.domains[name].get("transient"):
            del self.domains[name]

    def resume(self, name: str) -> None:
        """Resume; while the host's file system is full, for a moment only."""
        domain = self.domain(name)
        if domain["is"] not in ("paused", "io-error"):
            fail("Requested operation is not valid: domain is not paused")
        if not domain.get("full"):
            domain["is"] = "running"

    def suspend(self, name: str) -> None:
        """Pause."""
        if self.domain(name)["is"] != "running":
            fail("Requested operation is not valid: domain is not running")
        self.domain(name)["is"] = "paused"

    def dompmwakeup(self, name: str) -> None:
        """Wake from S3."""
        self.domain(name)["is"] = "running"

    def snapshot_list(self, name: str) -> None:
        """Names of snapshots."""
        self.say("\n".join(self.domain(name)["snapshots"]))

    def snapshot_dumpxml(self, name: str, snapshot: str) -> None:
        """One snapshot's XML."""
        self.say(self.domain(name)["snapshots"][snapshot])

    def snapshot_delete(self, name: str, snapshot: str) -> None:
        """Delete a snapshot's metadata."""
        self.domain(name)["snapshots"].pop(snapshot, None) or fail("no domain snapshot with matching name")

    def snapshot_create(self, name: str, path: str) -> None:
        """Define a snapshot again."""
        xml = Path(path).read_text().strip()
        self.domain(name)["snapshots"][element(xml, "name")] = xml

    def snapshot_create_as(self, name: str, snapshot: str) -> None:
        """Take a snapshot."""
        if snapshot in self.domain(name)["snapshots"]:
            fail(f"operation failed: domain snapshot {snapshot} already exists")
        if self.domain(name).get("no_room"):
            fail("operation failed: No space left on device")
        self.domain(name)["snapshots"][snapshot] = f"<domainsnapshot><name>{snapshot}</name></domainsnapshot>"

    def snapshot_revert(self, name: str, snapshot: str) -> None:
        """Revert to a snapshot; saved memory stays saved, as in libvirt."""
        self.domain(name)["snapshots"].get(snapshot) or fail("no domain snapshot with matching name")

    def blockresize(self, name: str, path: str, size: str) -> None:
        """Make a disk larger."""
        self.domain(name)["is"] in ("running", "paused") or fail("domain is not running")

    def net_list(self) -> None:
        """Names of active networks."""
        self.say("\n".join(name for name, each in self.networks.items() if each["active"]))

    def net_info(self, name: str) -> None:
        """Whether the network exists."""
        self.network(name)

    def net_define(self, path: str) -> None:
        """Define."""
        xml = Path(path).read_text()
        self.networks[element(xml, "name")] = {"xml": xml, "active": False, "hosts": []}

    def net_autostart(self, name: str) -> None:
        """Start with libvirt."""
        self.network(name)["autostart"] = True

    def net_start(self, name: str) -> None:
        """Start."""
        self.network(name)["active"] = True

    def net_destroy(self, name: str) -> None:
        """Stop; its guests are disconnected."""
        self.network(name)["active"] = False
        running = [domain for domain, each in self.domains.items() if each["is"] == "running"]
        self.state["cut"] = [domain for domain in running if f'network="{name}"' in self.domains[domain]["xml"]]

    def net_undefine(self, name: str) -> None:
        """Undefine."""
        self.network(name)
        del self.networks[name]

    def net_dumpxml(self, name: str) -> None:
        """Definition and entries."""
        network = self.network(name)
        self.say(network["xml"], *network["hosts"], sep="\n")

    def net_update(self, name: str, how: str, section: str, xml: str) -> None:
        """Add or remove an entry of DHCP or DNS."""
        hosts = self.network(name)["hosts"]
        if how == "delete":
            hosts.remove(xml)
        elif xml in hosts:
            fail("there is an existing dhcp host entry")
        else:
            hosts.append(xml)
