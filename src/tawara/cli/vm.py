"""`tawara vm`: build virtual machines as packages, and look after those that run here."""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from tawara.model.errors import ConfigurationError, ConflictError
from tawara.vm.base_image import Report
from tawara.vm.build import Built, Options, build_epoch, build_file, default_cache, read_file
from tawara.vm.definition import STATE
from tawara.vm.host import Host, Instance
from tawara.vm.inspect import inspect as inspect_package
from tawara.vm.packager import KINDS
from tawara.vm.schema import cluster_schema, guest_schema
from tawara.vm.template import describe, describe_cluster
from tawara.vm.virsh import SHOWN

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
    text = describe_cluster(name, fqdn, keys, _subnets_beside(target)) if cluster else describe(name, fqdn, keys)
    target.write_text(text)
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
    allow_clashes: bool = False,
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
        allow_clashes: Let it claim what another package in the folder claims: they are for different hosts.
        as_json: Say in JSON what was made.
    """
    if not description.exists():
        raise ConfigurationError(f"There is no {description}", hint=f"tawara vm init {description.stem}")
    start = time.monotonic()
    with _progress() as report:
        options = Options(out, cache or default_cache(), report, build_epoch(), mirror, sign, kind, allow_clashes)
        built = build_file(description, options)
    if as_json:
        _print_json({**vars(built), "packages": [str(path) for path in built.packages]})
        return
    for path in built.packages:
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    print(f"Built in {time.monotonic() - start:.1f} s. Next, where it is to run: {_install(built)}")


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
        table.add_row(
            guest.name, guest.fqdn, SHOWN[instance.state], str(guest.primary.ip), instance.origin, _note(instance)
        )
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
    _say(Host().start(name))


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
    _say(Host().stop(name, force=force, seconds=timeout))


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

    The memory of an instance with shared directories cannot be kept; its disks are, all at one moment.

    Example: tawara vm snapshot web before-upgrade

    Args:
        name: The instance.
        snapshot: What to call it.
    """
    _say(Host().snapshot(name, snapshot))


@app.command
def snapshots(name: str, *, delete: str | None = None, as_json: Json = False) -> None:
    """List an instance's snapshots, or delete one.

    For example:
      tawara vm snapshots web
      tawara vm snapshots web --delete before-upgrade

    Args:
        name: The instance.
        delete: The snapshot to delete.
        as_json: Say it in JSON.
    """
    if delete is not None:
        Host().delete_snapshot(name, delete)
        return
    found = Host().snapshots(name)
    if as_json:
        _print_json(found)
    elif found:
        print("\n".join(found))


@app.command
def restore(name: str, snapshot: str) -> None:
    """Put an instance back to a snapshot; memory that was saved meanwhile is thrown away.

    Example: tawara vm restore web before-upgrade

    Args:
        name: The instance.
        snapshot: Which one.
    """
    _say(Host().restore(name, snapshot))


@app.command
def upgrade(*names: str, everything: Annotated[bool, Parameter(name="--all")] = False, back: bool = False) -> None:
    """Put the newest definition that is installed in force: system, memory, addresses; it says what it changes.

    The data disk stays. The system disk stays where the new definition stands on the same delta; otherwise it is kept
    aside, and --back brings it back. Guests whose common network changes are upgraded together.

    For example:
      tawara vm upgrade web
      tawara vm upgrade --all
      tawara vm upgrade web --back

    Args:
        names: The instances.
        everything: All of this host.
        back: Go back to what it was before.
    """
    host = Host()
    if everything == bool(names) or (back and len(names) != 1):
        raise ConfigurationError(
            "tawara vm upgrade: name the instances, or say --all", hint="See `tawara vm upgrade --help`."
        )
    _say(host.back(names[0]) if back else host.upgrade(names or host.names()))


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


def _subnets_beside(target: Path) -> list[IPv4Network]:
    """The subnets of the other descriptions in the folder, as far as they can be read."""
    found = []
    for path in sorted(target.parent.glob("*.toml")):
        if path == target:
            continue
        with suppress(ValueError, AttributeError, TypeError):  # another program's, or being written
            networks = tomllib.loads(path.read_text()).get("network", {}).values()
            found += [IPv4Network(network["subnet"]) for network in networks if "subnet" in network]
    return found


def _install(built: Built) -> str:
    """The command that installs what was built, and nothing else that is in the folder."""
    for kind, command in (("deb", "apt install"), ("rpm", "dnf install")):
        files = [
            str(path if path.is_absolute() else Path() / path) for path in built.packages if path.suffix == f".{kind}"
        ]
        if files:
            return " ".join([command, *(file if file.startswith("/") else f"./{file}" for file in sorted(files))])
    return "nothing was built"


def _say(text: str) -> None:
    """What there is to say about something that was done; not a result, so on standard error."""
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
