"""`tawara vm` for moving instances: export to a file, import, and export as an appliance."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tawara.cli.vm_host import Json, app, print_json, report_done
from tawara.model.errors import ConfigurationError
from tawara.vm.host import GuestHost
from tawara.vm.moving import export_appliance, export_instance, import_instance
from tawara.vm.ova.archive import Progress


@app.command
def export(name: str, file: Path, *, snapshot: str | None = None, as_json: Json = False) -> None:
    """Write an instance that is off into a file: for another host, or, named .ova, for other hypervisors.

    A host needs the same packages: the file has the disks, snapshots and settings, but not what the packages hold. An
    appliance (.ova) has all layers in one disk, boots by itself, and gets its addresses by DHCP; it has no snapshots.
    Either has the instance's data and keys: only its owner may read it.

    For example:
      tawara vm export web /backup/web.tar
      tawara vm export web web.ova --snapshot before-upgrade

    Args:
        name: The instance.
        file: The file to write; one that exists is replaced when the new one is complete.
        snapshot: Export an appliance as it was then; the instance may run.
        as_json: Say in JSON what was written.
    """
    host = GuestHost()
    if file.suffix == ".ova":
        with _progress(f"exporting {name}") as progress:
            notices = export_appliance(host, name, file, snapshot, progress)
        for notice in notices:
            report_done(f"tawara: {notice}")
        version, how = host.guest(name).version, "Import it in another hypervisor."
    elif snapshot is not None:
        hint = f"Without --snapshot the file has all snapshots: tawara vm export {name} {file}"
        raise ConfigurationError("tawara vm export: --snapshot is only for an appliance, a file named .ova", hint=hint)
    else:
        version = export_instance(host, name, file).version
        how = f"On the other host: tawara vm import {file} --replace"
    if as_json:
        print_json({"name": name, "version": version, "file": str(file), "bytes": file.stat().st_size})
    else:
        report_done(f"{file} holds {name}, version {version}. {how}")


@app.command(name="import")
def import_(file: Path, *, replace: bool = False) -> None:
    """Put an exported instance in the place of the one of the same name, whose package is installed here.

    The instance must be off, and its package the version that it was exported of. It is not started.

    For example:
      apt install tawara-guest-web && tawara vm stop web
      tawara vm import web.tar --replace

    Args:
        file: What `tawara vm export` wrote.
        replace: Throw away what the instance has here.
    """
    if not file.exists():
        raise ConfigurationError(f"There is no {file}")
    name = import_instance(GuestHost(), file, replace=replace)
    report_done(f"{name} is imported. Next: tawara vm start {name}")


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """Show a bar on a terminal; yields the function to call with the part that is done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda done: bar.update(task, completed=done)
