"""A virsh without libvirt: domains and networks are entries of a file. For tests of the commands of the host's step. It
refuses what libvirt refuses (starting a running domain, undefining a saved domain without an option for its memory),
and records each command. `obeys` of a domain says whether it shuts down when asked to."""

from __future__ import annotations

import marshal
import sys

TYPE_CHECKING = False  # each command is a process of its own: `typing`, `json` and `re` would be most of its time
if TYPE_CHECKING:
    from typing import Any, NoReturn

FILE = sys.argv[1]
WORDS = [word for word in sys.argv[2:] if word not in ("--quiet", "--connect", "qemu:///system", "-c")]
COMMAND, ARGUMENTS = WORDS[0], [word for word in WORDS[1:] if not word.startswith("--")]
OPTIONS = {word for word in WORDS[1:] if word.startswith("--")}
REASONS = {"saved": "saved", "io-error": "I/O error", "paused": "user"}


def fail(what: str) -> NoReturn:
    """Fail as virsh does."""
    print(f"error: {what}", file=sys.stderr)
    sys.exit(1)


def read(path: str) -> str:
    """The text of a file."""
    with open(path) as file:
        return file.read()


def between(text: str, before: str, after: str) -> str:
    """The text between the first `before` and the following `after`."""
    return text.partition(before)[2].partition(after)[0]


def element(xml: str, name: str) -> str:
    """The text of the first element of this name."""
    return between(xml, f"<{name}>", "<")


class Fake:
    """The state of libvirt."""

    def __init__(self) -> None:
        with open(FILE, "rb") as file:
            self.state: dict[str, Any] = marshal.load(file)
        self.domains: dict[str, Any] = self.state["domains"]
        self.networks: dict[str, Any] = self.state["networks"]

    def save(self) -> None:
        """Save the state for the next command."""
        with open(FILE, "wb") as file:
            marshal.dump(self.state, file)

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
        getattr(self, COMMAND.replace("-", "_"))(*ARGUMENTS)

    def list(self) -> None:
        """The names of the domains selected by the options."""
        for name, domain in self.domains.items():
            is_active = domain["is"] not in ("off", "saved")
            if "--with-managed-save" in OPTIONS and domain["is"] != "saved":
                continue
            if "--autostart" in OPTIONS and not domain.get("autostart"):
                continue
            if "--persistent" in OPTIONS and domain.get("transient"):
                continue
            if is_active or "--all" in OPTIONS:
                print(*([element(domain["xml"], "uuid")] if "--uuid" in OPTIONS else []), name)

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
        print(names.get(word, word) + (f" ({REASONS.get(word, 'unknown')})" if "--reason" in OPTIONS else ""))

    def domuuid(self, name: str) -> None:
        """The uuid."""
        print(element(self.domain(name)["xml"], "uuid"))

    def dumpxml(self, name: str) -> None:
        """The definition."""
        print(self.domain(name)["xml"])

    def domblklist(self, name: str) -> None:
        """Targets and sources."""
        domain = self.domain(name)
        disk = domain.get("disk") or between(domain["xml"], '<source file="', '"')
        print(f" vda   {disk}")

    def define(self, path: str) -> None:
        """Define or redefine."""
        xml = read(path)
        name, uuid = element(xml, "name"), element(xml, "uuid")
        old = self.domains.get(name)
        if old and element(old["xml"], "uuid") != uuid:
            fail(f"operation failed: domain '{name}' already exists with uuid {element(old['xml'], 'uuid')}")
        self.domains[name] = {**(old or {"is": "off", "obeys": True, "snapshots": {}}), "xml": xml, "transient": False}

    def undefine(self, name: str) -> None:
        """Undefine a domain; a running one is transient from then on."""
        domain = self.domain(name)
        if domain["is"] == "saved" and "--managed-save" not in OPTIONS:
            fail("Requested operation is not valid: Refusing to undefine while domain managed save image exists")
        if domain["snapshots"] and "--snapshots-metadata" not in OPTIONS:
            fail("Requested operation is not valid: cannot delete inactive domain with snapshots")
        if domain["is"] in ("off", "saved"):
            del self.domains[name]
        else:
            domain["transient"] = True

    def autostart(self, name: str) -> None:
        """Enable or disable libvirt's own start at boot."""
        self.domain(name)["autostart"] = "--disable" not in OPTIONS

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
        print("\n".join(self.domain(name)["snapshots"]))

    def snapshot_dumpxml(self, name: str, snapshot: str) -> None:
        """One snapshot's XML."""
        print(self.domain(name)["snapshots"][snapshot])

    def snapshot_delete(self, name: str, snapshot: str) -> None:
        """Delete a snapshot's metadata."""
        self.domain(name)["snapshots"].pop(snapshot, None) or fail("no domain snapshot with matching name")

    def snapshot_create(self, name: str, path: str) -> None:
        """Define a snapshot again."""
        xml = read(path).strip()
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
        print("\n".join(name for name, each in self.networks.items() if each["active"]))

    def net_info(self, name: str) -> None:
        """Whether the network exists."""
        self.network(name)

    def net_define(self, path: str) -> None:
        """Define."""
        xml = read(path)
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
        print(network["xml"], *network["hosts"], sep="\n")

    def net_update(self, name: str, how: str, section: str, xml: str) -> None:
        """Add or remove an entry of DHCP or DNS."""
        hosts = self.network(name)["hosts"]
        if how == "delete":
            hosts.remove(xml)
        elif xml in hosts:
            fail("there is an existing dhcp host entry")
        else:
            hosts.append(xml)


fake = Fake()
fake.state.setdefault("log", []).append(" ".join(WORDS))
try:
    fake.run()
finally:
    fake.save()
