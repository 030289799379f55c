"""`tawara vm`: build virtual machines as packages, and look after those that run here."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from tawara.model.errors import ConfigurationError, ConflictError
from tawara.vm.base_image import Report
from tawara.vm.build import Options, build_epoch, build_file, default_cache, read_file
from tawara.vm.definition import STATE
from tawara.vm.host import Host, Instance
from tawara.vm.inspect import inspect as inspect_package
from tawara.vm.packager import KINDS
from tawara.vm.schema import cluster_schema, guest_schema
from tawara.vm.template import describe, describe_cluster

app = App(name="vm", help="Build and run virtual machines as packages.", help_format="plaintext")

Json = Annotated[bool, Parameter(name="--json", negative="")]
State = Annotated[Path, Parameter(name="--state", show=False)]


@app.command
def init(
    name: str, *, fqdn: str | None = None, key: Path | None = None, cluster: bool = False, force: bool = False
) -> None:
    """Write NAME.toml, a commented description of the classic guest, and its JSON Schema for editors.

    For example:
      tawara vm init web --fqdn web.example --key ~/.ssh/id_ed25519.pub
      tawara vm init shop --cluster

    Args:
        name: The guest's short name, or the cluster's.
        fqdn: Its full name; NAME.example when left out. A cluster's guests are below it.
        key: A public key file that may log in; the first of ~/.ssh/id_*.pub when left out.
        cluster: Describe several guests that become one package.
        force: Write over a file that is there.
    """
    target = Path(f"{name}.toml")
    if target.exists() and not force:
        raise ConflictError(f"{target} is there already", hint="--force writes over it.")
    files = [key] if key else sorted(Path.home().glob(".ssh/id_*.pub"))[:1]
    keys = tuple(file.read_text().strip() for file in files)
    target.write_text(describe_cluster(name, fqdn, keys) if cluster else describe(name, fqdn, keys))
    schema = cluster_schema() if cluster else guest_schema()
    Path(f"{name}.schema.json").write_text(json.dumps(schema, indent=2) + "\n")
    print(f"{target} is written. Next: edit it, then: tawara vm build {target}")


@app.command
def build(
    description: Path,
    *,
    out: Path = Path("dist"),
    cache: Path | None = None,
    mirror: str = "",
    sign: str | None = None,
    kind: tuple[str, ...] = KINDS,
    as_json: Json = False,
) -> None:
    """Build a guest's packages (.deb and .rpm), its base's, and a repository around them.

    For example:
      tawara vm build web.toml
      apt install ./dist/*.deb
      tawara vm build web.toml --sign packages@example.org --out /srv/repository

    Args:
        description: The NAME.toml.
        out: Where the packages and the repository's metadata go.
        cache: Where bases are kept between builds.
        mirror: A Debian mirror other than the default.
        sign: The gpg key that signs the repository.
        kind: deb or rpm, when only one of them is wanted.
        as_json: Say in JSON what was made.
    """
    if not description.exists():
        raise ConfigurationError(f"There is no {description}", hint=f"tawara vm init {description.stem}")
    start = time.monotonic()
    with _progress() as report:
        options = Options(out, cache or default_cache(), report, build_epoch(), mirror, sign, kind)
        built = build_file(description, options)
    if as_json:
        _print_json({**vars(built), "packages": [str(path) for path in built.packages]})
        return
    for path in built.packages:
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    print(f"Built in {time.monotonic() - start:.1f} s. Next, where it is to run: apt install ./{out}/*.deb")


@app.command
def check(description: Path) -> None:
    """Check a description; every mistake is told with its line and what to do.

    Example: tawara vm check web.toml

    Args:
        description: The NAME.toml, a guest's or a cluster's.
    """
    if not description.exists():
        raise ConfigurationError(f"There is no {description}", hint=f"tawara vm init {description.stem}")
    for guest in read_file(description):
        print(f"{guest.fqdn}  {guest.primary.ip}  on {guest.ground}")
    print(f"{description}: nothing is wrong")


@app.command(name="list")
def list_(*, as_json: Json = False, state: State = Path(STATE)) -> None:
    """List this machine's guests.

    Example: tawara vm list --json

    Args:
        as_json: Say it in JSON.
    """
    instances = Host(state).instances()
    if as_json:
        _print_json([instance.as_json() for instance in instances])
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "FQDN", "STATE", "ADDRESS", "FROM", "NOTE"):
        table.add_column(heading, no_wrap=heading in ("NAME", "ADDRESS"))
    for instance in instances:
        guest = instance.guest
        table.add_row(guest.name, guest.fqdn, instance.state, str(guest.primary.ip), instance.origin, _note(instance))
    Console().print(table)


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
    host = Host()
    guest = host.create(name, source, fqdn, dict(_chosen_ip(text) for text in ip))
    if as_json:
        _print_json(host.instance(name).as_json())
    else:
        print(f"{guest.fqdn} is starting at {guest.primary.ip}. Next: tawara vm ssh {name}")


@app.command
def start(name: str) -> None:
    """Start an instance.

    Example: tawara vm start web

    Args:
        name: The instance.
    """
    Host().start(name)


@app.command
def stop(name: str, *, force: bool = False) -> None:
    """Shut an instance down, as its power button would.

    Example: tawara vm stop web

    Args:
        name: The instance.
        force: Switch it off at once.
    """
    Host().stop(name, force=force)


@app.command
def console(name: str) -> None:
    """Open an instance's serial console; Ctrl-] leaves it.

    Example: tawara vm console web

    Args:
        name: The instance.
    """
    Host().instance(name)
    _become("virsh", "--connect", "qemu:///system", "console", name)


@app.command
def ssh(name: str, *command: Annotated[str, Parameter(allow_leading_hyphen=True)]) -> None:
    """Log in to an instance, or run a command in it; its host key is known and checked.

    Example: tawara vm ssh web uptime

    Args:
        name: The instance.
        command: What to run there.
    """
    guest = Host().instance(name).guest
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
    guest = Host().instance(name).guest
    if as_json:
        _print_json({nic.network.name: str(nic.ip) for nic in guest.nics})
    else:
        print(guest.primary.ip)


@app.command
def rm(name: str) -> None:
    """Remove a created instance, its data included. A packaged guest is removed with its package.

    Example: tawara vm rm web2

    Args:
        name: The instance.
    """
    Host().remove(name)


@app.command
def snapshot(name: str, snapshot: str) -> None:
    """Keep an instance's disks (and memory, when it runs) as they are now.

    Example: tawara vm snapshot web before-upgrade

    Args:
        name: The instance.
        snapshot: What to call it.
    """
    Host().snapshot(name, snapshot)


@app.command
def snapshots(name: str, *, as_json: Json = False) -> None:
    """List an instance's snapshots.

    Example: tawara vm snapshots web

    Args:
        name: The instance.
        as_json: Say it in JSON.
    """
    found = Host().snapshots(name)
    if as_json:
        _print_json(found)
    elif found:
        print("\n".join(found))


@app.command
def restore(name: str, snapshot: str) -> None:
    """Put an instance back to a snapshot.

    Example: tawara vm restore web before-upgrade

    Args:
        name: The instance.
        snapshot: Which one.
    """
    Host().restore(name, snapshot)


@app.command
def upgrade(name: str, *, back: bool = False) -> None:
    """Move an instance to the newest delta that is installed; its data disk stays, its system disk is kept aside.

    Example: tawara vm upgrade web; tawara vm upgrade web --back

    Args:
        name: The instance.
        back: Go back to what it was before.
    """
    Host().upgrade(name, back=back)


@app.command
def inspect(package: Path) -> None:
    """Print a package file's metadata as JSON, the same shape for .deb and .rpm.

    Example: tawara vm inspect dist/tawara-guest-web_1-1_amd64.deb

    Args:
        package: The package file.
    """
    if not package.exists():
        raise ConfigurationError(f"There is no {package}")
    _print_json(inspect_package(package))


def _note(instance: Instance) -> str:
    if instance.error:
        return instance.error.splitlines()[-1]
    return "" if instance.newest else f"a newer delta is installed: tawara vm upgrade {instance.guest.name}"


def _chosen_ip(text: str) -> tuple[str, IPv4Address]:
    network, _, address = text.partition("=")
    try:
        return network, IPv4Address(address)
    except AddressValueError:
        raise ConfigurationError(f"--ip {text} is not NETWORK=ADDRESS", hint="--ip nat0=192.168.231.20") from None


@contextmanager
def _progress() -> Iterator[Report]:
    """On a terminal a spinner with what is being done; elsewhere a line for each step. Always on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: print(what, file=sys.stderr, flush=True)
        return
    with console.status("starting") as status:
        yield status.update


def _become(program: str, *words: str) -> None:
    sys.stdout.flush()
    os.execvp(program, [program, *words])  # noqa: S606 - the user's own terminal is to be that program's


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, sort_keys=True))
