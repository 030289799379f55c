"""The network of a probe: a network namespace for each machine, in two halves that a single link connects. runner and
half of the machines ── east ═══ west ── the other half Everything is created inside the runner's own network namespace
(see `isolation`), so that nothing outside of it is changed and nothing is left of it. Where namespaces are not allowed,
`Loopback` gives every machine an address of 127/8 instead; such a network cannot be cut or slowed down."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from typing import Protocol

SUBNET = "10.86.0"
"""Known to the runner's namespace only."""


class Network(Protocol):
    """The network addresses of a probe's machines."""

    separable: bool
    """Whether it can be cut and slowed down."""
    peers: str
    """The network that all addresses are in."""

    def add(self, machine: str, *, west: bool = False) -> str:
        """Connect another machine, in the eastern half by default; return its address."""
        ...

    def within(self, machine: str) -> tuple[str, ...]:
        """The prefix of a command that is to run on a machine."""
        ...

    def cut(self, machine: str | None = None) -> None:
        """Drop all packets between a machine and the others, or between the halves, without refusals."""
        ...

    def join(self, machine: str | None = None) -> None:
        """Forward packets again."""
        ...

    def slow(self, machine: str, kilobits: int | None) -> None:
        """Limit the traffic of a machine to so many bits a second, None for no limit."""
        ...

    def close(self) -> None:
        """Remove it."""
        ...


class Namespaces:
    """See the module."""

    separable = True
    peers = f"{SUBNET}.0/24"

    def __init__(self) -> None:
        self._machines: list[str] = []
        for half in ("east", "west"):
            _ip("link", "add", half, "type", "bridge")
        _ip("link", "add", "to-west", "master", "east", "type", "veth", "peer", "name", "to-east")
        _ip("link", "set", "to-east", "master", "west")
        for link in ("lo", "east", "west", "to-west", "to-east"):
            _ip("link", "set", link, "up")
        _ip("address", "add", f"{SUBNET}.1/24", "dev", "east")

    def add(self, machine: str, *, west: bool = False) -> str:
        """See Network."""
        self._machines.append(machine)
        address = f"{SUBNET}.{len(self._machines) + 1}"
        _ip("netns", "add", machine)
        _ip("link", "add", f"v-{machine}", "type", "veth", "peer", "name", "eth0", "netns", machine)
        _ip("link", "set", f"v-{machine}", "master", "west" if west else "east", "up")
        _ip("-n", machine, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", machine, "link", "set", link, "up")
        return address

    def within(self, machine: str) -> tuple[str, ...]:
        """See Network. `ip netns exec` would create a mount namespace, too, which does not see later mounts."""
        return ("nsenter", f"--net=/run/netns/{machine}", "--")

    def cut(self, machine: str | None = None) -> None:
        """See Network."""
        _ip("link", "set", f"v-{machine}" if machine else "to-west", "down")

    def join(self, machine: str | None = None) -> None:
        """See Network."""
        _ip("link", "set", f"v-{machine}" if machine else "to-west", "up")

    def slow(self, machine: str, kilobits: int | None) -> None:
        """See Network. Packets beyond a queue of half a second are lost, as on a bad link."""
        for within, link in (((), f"v-{machine}"), (self.within(machine), "eth0")):
            limit: Sequence[str] = ("tbf", "rate", f"{kilobits}kbit", "burst", "16kb", "latency", "500ms")
            what = ("replace", "dev", link, "root", *limit) if kilobits else ("del", "dev", link, "root")
            _run(*within, "tc", "qdisc", *what)

    def close(self) -> None:
        """See Network. A link is removed with one of its ends."""
        for machine in self._machines:
            _ip("link", "del", f"v-{machine}")
            _ip("netns", "del", machine)
        for link in ("to-west", "east", "west"):
            _ip("link", "del", link)


class Loopback:
    """Addresses of 127/8 instead of machines."""

    separable = False

    def __init__(self) -> None:
        self._net = f"127.{random.randrange(1, 255)}.{random.randrange(1, 255)}"
        self._machines: list[str] = []
        self.peers = "127.0.0.0/8"

    def add(self, machine: str, *, west: bool = False) -> str:
        """See Network."""
        self._machines.append(machine)
        return f"{self._net}.{len(self._machines) + 1}"

    def within(self, machine: str) -> tuple[str, ...]:
        """See Network."""
        return ()

    def cut(self, machine: str | None = None) -> None:
        """See Network."""
        raise NotImplementedError("loopback cannot be cut")

    def join(self, machine: str | None = None) -> None:
        """See Network."""

    def slow(self, machine: str, kilobits: int | None) -> None:
        """See Network."""
        raise NotImplementedError("loopback cannot be slowed down")

    def close(self) -> None:
        """See Network."""


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
