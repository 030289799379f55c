"""`tawara vm` for what is in force for an instance: its own settings, and the newest definition of its package."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from tawara.cli.vm_host import Json, app, print_json, report_done
from tawara.model.errors import ConfigurationError
from tawara.vm.host import GuestHost
from tawara.vm.spec_fields import read_size, show_size


@app.command(name="set")
def set_(name: str, *settings: str, as_json: Json = False) -> None:
    """Give an instance other memory, processors or a larger system disk than its package says.

    Memory and processors hold from its next start on. The disk grows at once, and the file system in it at the next
    start; it never becomes smaller. They are kept when the package is upgraded. An empty value takes memory or
    processors back; without settings it shows them.

    For example:
      tawara vm set web memory=1G cpus=2
      tawara vm set web disk=20G
      tawara vm set web memory=

    Args:
        name: The instance.
        settings: memory=SIZE, cpus=NUMBER, disk=SIZE.
        as_json: Show them in JSON.
    """
    host = GuestHost()
    if settings:
        report_done(host.set(name, dict(_setting(text) for text in settings)))
        return
    kept = host.settings(name)
    shown = {"memory": kept["memory_kib"] * 1024} if "memory_kib" in kept else {}
    shown |= {key: kept[key] for key in ("cpus", "disk") if key in kept}
    if as_json:
        print_json(shown)
    else:
        for key, value in shown.items():
            print(f"{key}={value if key == 'cpus' else show_size(value)}")


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
    host = GuestHost()
    if everything and not back:
        names = tuple(each.guest.name for each in host.instances() if not each.newest)
        if not names:
            report_done("there is nothing to do")
            return
    elif everything == bool(names) or (back and len(names) != 1):
        raise ConfigurationError(
            "tawara vm upgrade: name the instances, or say --all", hint="See `tawara vm upgrade --help`."
        )
    report_done(host.back(names[0]) if back else host.upgrade(names))


_SETTINGS = {
    "memory": ("memory_kib", 32 << 20, 1 << 44),
    "cpus": ("cpus", 1, 255),
    "disk": ("disk", 1 << 20, 1 << 46),
}
"""Settings of an instance: the name under which one is kept, its least and greatest value."""


def _setting(text: str) -> tuple[str, int | None]:
    """Read KEY=VALUE: the key under which it is kept, and the value; None takes it back. Raises ConfigurationError."""
    key, equals, value = text.partition("=")
    hint = "Write memory=1G, cpus=2 or disk=20G."
    if key not in _SETTINGS or not equals:
        raise ConfigurationError(f"{text!r} is not understood", hint=hint)
    kept, least, most = _SETTINGS[key]
    if not value:
        return kept, None
    number = (int(value) if value.isdecimal() else None) if key == "cpus" else read_size(value)
    if number is None or not least <= number <= most or (key == "disk" and number % (1 << 20)):
        raise ConfigurationError(f"{value!r} is not possible for {key}", hint=hint)
    return kept, number // 1024 if key == "memory" else number
