"""`tawara vm`: describe virtual machines, build packages of them, inspect packages."""

from __future__ import annotations

import json
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path

from rich.console import Console

from tawara.cli import vm_definitions, vm_moving, vm_snapshots  # noqa: F401 - they add their commands
from tawara.cli.vm_host import Json, app, print_json
from tawara.model.errors import ConfigurationError, ConflictError
from tawara.vm.base_image import Report
from tawara.vm.build import Options, build_epoch, build_file, default_cache, read_file
from tawara.vm.inspect import inspect as inspect_package
from tawara.vm.packager import KINDS
from tawara.vm.schema import cluster_schema, guest_schema
from tawara.vm.template import describe, describe_cluster

app.command(
    "tawara.cli.vm_publish:publish", name="publish", help="Upload a built repository into the store, for apt and dnf."
)

_NO_KEY = "Put a public key's text into `authorized_keys`, or build with --key ~/.ssh/id_ed25519.pub."


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
    if not keys:
        print(f"tawara: there is no ~/.ssh/id_*.pub, so root cannot log in yet. {_NO_KEY}", file=sys.stderr)
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
    key: tuple[Path, ...] = (),
    allow_clashes: bool = False,
    as_json: Json = False,
) -> None:
    """Build a guest's packages (.deb and .rpm), its base's, and a repository around them.

    For example:
      tawara vm build web.toml
      apt install ./dist/*.deb
      tawara vm build examples/trio/trio.toml --key ~/.ssh/id_ed25519.pub
      tawara vm build web.toml --sign packages@example.org --out /srv/repository

    Args:
        description: The NAME.toml.
        out: Where the packages and the repository's metadata go.
        cache: Where bases are kept between builds.
        mirror: A Debian mirror other than the default.
        sign: The gpg key that signs the repository.
        kind: deb or rpm, when only one of them is wanted.
        key: A public key file that may log in to every guest, besides those in the description; may be repeated.
        allow_clashes: Let it claim what another package in the folder claims: they are for different hosts.
        as_json: Say in JSON what was made.
    """
    if not description.exists():
        raise ConfigurationError(f"There is no {description}", hint=f"tawara vm init {description.stem}")
    start = time.monotonic()
    keys = tuple(file.read_text().strip() for file in key)
    for guest in read_file(description):
        if not keys and not guest.authorized_keys and (guest.image is None or guest.image.identity == "ours"):
            print(
                f"tawara: {guest.name} has no authorized key, so ssh to it is not possible. {_NO_KEY}", file=sys.stderr
            )
    with _progress() as report:
        options = Options(out, cache or default_cache(), report, build_epoch(), mirror, sign, kind, allow_clashes, keys)
        built = build_file(description, options)
    if as_json:
        paths = {"packages": [str(path) for path in built.packages], "tool": [str(path) for path in built.tool]}
        print_json(vars(built) | paths)
        return
    for path in (*built.packages, *built.tool):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path}")
    print(f"Built in {time.monotonic() - start:.1f} s. Next, where it is to run: {_install(built.packages)}")
    print(f"With the command `tawara vm` for that host: {_install(built.tool)}")


@app.command
def check(description: Path) -> None:
    """Check a description; report every mistake with its line and what to do.

    Example: tawara vm check web.toml

    Args:
        description: The NAME.toml, a guest's or a cluster's.
    """
    if not description.exists():
        raise ConfigurationError(f"There is no {description}", hint=f"tawara vm init {description.stem}")
    for guest in read_file(description):
        print(f"{guest.fqdn}  {guest.primary.ip}  on {guest.ground}")
    print(f"{description}: nothing is wrong")


@app.command
def inspect(package: Path) -> None:
    """Print a package file's metadata as JSON, the same shape for .deb and .rpm.

    Example: tawara vm inspect dist/tawara-guest-web_1-1_amd64.deb

    Args:
        package: The package file.
    """
    if not package.exists():
        raise ConfigurationError(f"There is no {package}")
    print_json(inspect_package(package))


def _subnets_beside(target: Path) -> list[IPv4Network]:
    """Return the subnets of the other readable descriptions in the directory."""
    found = []
    for path in sorted(target.parent.glob("*.toml")):
        if path == target:
            continue
        with suppress(ValueError, AttributeError, TypeError):  # another program's file, or one being written
            networks = tomllib.loads(path.read_text()).get("network", {}).values()
            found += [IPv4Network(network["subnet"]) for network in networks if "subnet" in network]
    return found


def _install(packages: Sequence[Path]) -> str:
    """Return the command that installs these packages, and no others in the directory."""
    for kind, command in (("deb", "apt install"), ("rpm", "dnf install")):
        files = [str(path if path.is_absolute() else Path() / path) for path in packages if path.suffix == f".{kind}"]
        if files:
            return " ".join([command, *(file if file.startswith("/") else f"./{file}" for file in sorted(files))])
    return "nothing was built"


@contextmanager
def _progress() -> Iterator[Report]:
    """Show progress on standard error: a spinner on a terminal, otherwise a line for each step."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: print(what, file=sys.stderr, flush=True)
        return
    with console.status("starting") as status:
        yield status.update
