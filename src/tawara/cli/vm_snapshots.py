"""`tawara vm` for snapshots of instances and clusters."""

from __future__ import annotations

from tawara.cli.vm_host import Json, app, print_json, report_done
from tawara.vm.host import GuestHost


@app.command
def snapshot(name: str, snapshot: str) -> None:
    """Keep an instance's disks (and memory, when it runs) as they are now, or those of all guests of a cluster.

    A cluster's guests are halted meanwhile, so that all are kept at one moment: all of them, or none. The memory of an
    instance with shared directories cannot be kept; its disks are, all at one moment.

    Example: tawara vm snapshot web before-upgrade

    Args:
        name: The instance.
        snapshot: What to call it.
    """
    report_done(GuestHost().snapshot(name, snapshot))


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
        GuestHost().delete_snapshot(name, delete)
        return
    found = GuestHost().snapshots(name)
    if as_json:
        print_json(found)
    elif found:
        print("\n".join(found))


@app.command
def restore(name: str, snapshot: str) -> None:
    """Put an instance, or all guests of a cluster, back to a snapshot; memory saved meanwhile is thrown away.

    Example: tawara vm restore web before-upgrade

    Args:
        name: The instance.
        snapshot: Which one.
    """
    report_done(GuestHost().restore(name, snapshot))
