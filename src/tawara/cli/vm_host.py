"""`tawara vm` on the host of guests: list, create, start, stop, log in, remove."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from tawara.model.errors import ConfigurationError, UnavailableError
from tawara.vm.agent import Agent
from tawara.vm.agent import copy as copy_file
from tawara.vm.definition import STATE
from tawara.vm.host import GuestHost, Instance
from tawara.vm.spec_fields import show_size
from tawara.vm.virsh import SHOWN

app = App(name="vm", help="Build and run virtual machines as packages.", help_format="plaintext")

Json = Annotated[bool, Parameter(name="--json", negative="")]
State = Annotated[Path, Parameter(name="--state", show=False)]


@app.command(name="list")
def list_(*, failed: bool = False, as_json: Json = False, state: State = Path(STATE)) -> int:
    """List this machine's guests.

    For example:
      tawara vm list --json
      tawara vm list --failed

    Args:
        failed: Only those that could not be brought up or that libvirt has trouble with; fails when there are any.
        as_json: Say it in JSON.
    """
    instances = [each for each in GuestHost(state).instances() if each.failed or not failed]
    if as_json:
        print_json([instance.as_json() for instance in instances])
    elif instances:
        print("\n".join(_table(instances)))
    return int(failed and bool(instances))


@app.command
def info(name: str, *, as_json: Json = False) -> None:
    """Show all about an instance: what it is, where it is, how to reach it, what an upgrade would change.

    Example: tawara vm info web

    Args:
        name: The instance.
        as_json: Say it in JSON.
    """
    host = GuestHost()
    instance = host.instance(name)
    guest = instance.guest
    facts: dict[str, Any] = instance.as_json() | {
        "memory": guest.memory,
        "cpus": guest.cpus,
        "ssh": f"ssh root@{guest.fqdn}",
        "snapshots": host.snapshots(name),
        "on": guest.ground,
    }
    if as_json:
        print_json(facts)
        return
    facts["memory"] = show_size(guest.memory)
    facts["addresses"] = ", ".join(f"{ip} ({net})" for net, ip in instance.addresses.items())
    facts["snapshots"] = ", ".join(facts["snapshots"]) or "none"
    facts["published"] = ", ".join(facts["published"]) or "none"
    facts["newest"] = "yes" if instance.newest else f"no: tawara vm upgrade {name}"
    order = (
        "name",
        "fqdn",
        "state",
        "addresses",
        "published",
        "ssh",
        "memory",
        "cpus",
        "on",
        "origin",
        "version",
        "newest",
    )
    for fact in (*order, "snapshots", *(["error"] if instance.error else [])):
        print(f"{fact:<10} {facts[fact]}")


@app.command
def wait(*names: str, timeout: float = 300.0) -> None:
    """Wait until instances let in by ssh.

    Example: tawara vm wait web --timeout 60

    Args:
        names: The instances.
        timeout: Seconds after which it gives up and fails.
    """
    deadline = time.monotonic() + timeout
    host = GuestHost()
    for name in names:
        address = str(host.guest(name).primary.ip)
        while not _answers(address):
            if time.monotonic() >= deadline:
                state = SHOWN[host.instance(name).state]
                raise UnavailableError(
                    f"{name} does not answer by ssh at {address} after {timeout:g} s; it is: {state}",
                    hint=f"tawara vm info {name}; tawara vm console {name}",
                )
            time.sleep(0.2)


@app.command(name="exec")
def exec_(name: str, *command: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> int:
    """Run a command in an instance by its guest agent, without a network; gives the command's exit code.

    It is run without a shell and without a terminal; what it prints comes when it has ended. Guests on debian12 have an
    agent.

    Example: tawara vm exec web -- systemctl --failed

    Args:
        name: The instance.
        command: The program and its arguments.
    """
    GuestHost().instance(name)
    if not command:
        raise ConfigurationError("tawara vm exec: missing command", hint="tawara vm exec web -- uptime")
    ended = Agent(name).run(command)
    sys.stdout.buffer.write(ended.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(ended.stderr)
    return ended.code


@app.command
def cp(source: str, target: str) -> None:
    """Copy a file into an instance or out of it, by its guest agent, without a network.

    For example:
      tawara vm cp notes.txt web:/root/
      tawara vm cp web:/var/log/syslog .

    Args:
        source: A file, or NAME:PATH.
        target: Where it goes: a path, or NAME:PATH.
    """
    copy_file(source, target)


@app.command
def create(
    name: str,
    *,
    source: Annotated[str, Parameter(name="--from")],
    fqdn: str | None = None,
    ip: tuple[str, ...] = (),
    as_json: Json = False,
) -> None:
    """Make and start another instance of an installed guest, with an identity of its own.

    Example: tawara vm create web2 --from web --ip nat0=192.168.231.20

    Args:
        name: The new instance's name.
        source: The guest whose system it gets.
        fqdn: Its full name; the template's domain when left out.
        ip: NETWORK=ADDRESS, an address chosen instead of derived; may be repeated.
        as_json: Say in JSON what was made.
    """
    host = GuestHost()
    guest = host.create(name, source, fqdn, dict(_chosen_ip(text) for text in ip))
    if as_json:
        print_json(host.instance(name).as_json())
    else:
        print(f"{guest.fqdn} is starting at {guest.primary.ip}. Next: tawara vm ssh {name}")


@app.command
def start(name: str) -> None:
    """Start an instance.

    Example: tawara vm start web

    Args:
        name: The instance.
    """
    report_done(GuestHost().start(name))


@app.command
def stop(name: str, *, force: bool = False, timeout: float | None = None) -> None:
    """Shut an instance down, as its power button would.

    One that is still running after the time-out is switched off; the command says so and fails. It stays off when the
    host starts, until it is started again.

    For example:
      tawara vm stop web
      tawara vm stop web --timeout 300

    Args:
        name: The instance.
        force: Switch it off at once; memory that was saved is thrown away.
        timeout: Seconds that it may take to shut down; `stop_seconds` of /etc/tawara-vm/host.conf (30) when left out.
    """
    report_done(GuestHost().stop(name, force=force, seconds=timeout))


@app.command
def console(name: str) -> None:
    """Open an instance's serial console; Ctrl-] leaves it.

    Example: tawara vm console web

    Args:
        name: The instance.
    """
    GuestHost().instance(name)
    _become("virsh", "--connect", "qemu:///system", "console", name)


@app.command
def ssh(name: str, *command: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Log in to an instance, or run a command in it; its host key is known and checked.

    Example: tawara vm ssh web uptime

    Args:
        name: The instance.
        command: What to run there.
    """
    guest = GuestHost().guest(name)
    known = ["-o", f"UserKnownHostsFile={STATE}/known_hosts", "-o", "StrictHostKeyChecking=yes"]
    _become("ssh", *known, f"root@{guest.primary.ip}", *command)


@app.command
def ip(name: str, *, as_json: Json = False) -> None:
    """Print an instance's address.

    Example: ping "$(tawara vm ip web)"

    Args:
        name: The instance.
        as_json: All its addresses, by network.
    """
    guest = GuestHost().guest(name)
    if as_json:
        print_json({nic.network.name: str(nic.ip) for nic in guest.nics})
    else:
        print(guest.primary.ip)


@app.command
def rm(name: str, *, yes: bool = False) -> None:
    """Remove a created instance, its data included. A packaged guest is removed with its package.

    On a terminal it asks first.

    Example: tawara vm rm web2

    Args:
        name: The instance.
        yes: Do not ask.
    """
    host = GuestHost()
    host.instance(name)
    if not yes and sys.stdin.isatty():
        answer = input(f"Remove {name} and all its data? Type its name to do it: ")
        if answer.strip() != name:
            raise ConfigurationError(f"{name} is left as it is")
    host.remove(name)


def _answers(address: str) -> bool:
    """Return whether an ssh server answers at the address."""
    try:
        with socket.create_connection((address, 22), timeout=5) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _table(instances: list[Instance]) -> list[str]:
    """Return a line of at most 80 characters for each instance, followed by its messages."""
    rows = [("NAME", "STATE", "ADDRESS", "FQDN")]
    rows += [(each.guest.name, SHOWN[each.state], str(each.guest.primary.ip), each.guest.fqdn) for each in instances]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for row, instance in zip(rows, [None, *instances], strict=True):
        line = "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]])
        lines.append(line if len(line) <= 80 else f"{line[:79]}…")
        if instance is not None and (note := _note(instance)):
            lines.append(f"    {note}")
    return lines


def report_done(text: str) -> None:
    """Print a message about a completed action on standard error, since it is not a result."""
    if text:
        print(text, file=sys.stderr)


def _note(instance: Instance) -> str:
    if instance.error:
        return instance.error.splitlines()[-1]
    return "" if instance.newest else f"a newer version is installed: tawara vm upgrade {instance.guest.name}"


def _chosen_ip(text: str) -> tuple[str, IPv4Address]:
    network, _, address = text.partition("=")
    try:
        return network, IPv4Address(address)
    except AddressValueError:
        raise ConfigurationError(f"--ip {text} is not NETWORK=ADDRESS", hint="--ip nat0=192.168.231.20") from None


def _become(program: str, *words: str) -> None:
    sys.stdout.flush()
    os.execvp(program, [program, *words])  # noqa: S606 - the user's own terminal is to be that program's


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    print(json.dumps(value, indent=2, sort_keys=True))
