"""`tawara settings`: list, change and remove the cluster's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.dry_run import DryRun, remove_or_preview
from tawara.cli.session import DEFAULT, Session
from tawara.model import settings as model
from tawara.model.errors import NotFoundError
from tawara.model.settings import SETTINGS, Setting

app = App(name="settings", help="List, change and remove the cluster's settings.")


class NoSetting(NotFoundError):
    """No setting has this name."""

    code = "no_setting"
    message = "No such setting"
    hint = "`tawara settings list` shows the settings."


@app.command(name=["list", "ls"])
async def show(
    *,
    state: Annotated[bool, Parameter(help="Also show the rows in which the store keeps its own state.")] = False,
    session: Session = DEFAULT,
) -> None:
    """List the settings: value, default, unit, meaning. A value of `-` is the default."""
    async with session.client() as client:
        found = await client.settings()
    rows = [(name, found.get(name), setting) for name, setting in _known(found)]
    internal = sorted(found.keys() - {name for name, _, _ in rows}) if state else []
    if session.json:
        for name, value, setting in rows:
            facts = {"default": setting.default, "unit": setting.unit, "meaning": setting.meaning}
            effective = setting.default if value is None else value
            output.json_line({"setting": name, "value": effective, "set": value is not None} | facts)
        for name in internal:
            output.json_line({"state": name, "value": found[name]})
        return
    output.table(
        ("SETTING", "VALUE", "DEFAULT", "UNIT", "MEANING"),
        [
            (name, "-" if value is None else value, setting.default or "-", setting.unit, setting.meaning)
            for name, value, setting in rows
        ],
    )
    if internal:
        output.line()
        output.table(("STATE", "VALUE"), [(name, found[name]) for name in internal])


def _known(found: Mapping[str, str]) -> list[tuple[str, Setting]]:
    """Return every setting with its name; existing members of a family precede the family."""
    known = []
    for setting in SETTINGS:
        known += [(name, setting) for name in sorted(found) if model.find(name) is setting and name != setting.name]
        known.append((setting.name, setting))
    return known


@app.command
async def get(key: str, /, *, session: Session = DEFAULT) -> None:
    """Print one setting; its default if it is not set."""
    async with session.client() as client:
        value = await client.setting(key)
    setting = model.find(key)
    if not value and setting is None:
        raise NoSetting(model.unknown(key), hint="`tawara settings list` shows all.")
    if not value and setting is not None:
        value = setting.default
    if session.json:
        output.json_line({key: value})
    else:
        output.line(output.shown(value))


@app.command(name="set")
async def change(key: str, value: str, /, *, session: Session = DEFAULT) -> None:
    """Change one setting.

    For example:

        tawara settings set skip_mkcol 1
    """
    async with session.client() as client:
        await client.set_setting(key, value)


@app.command(name=["remove", "rm"])
async def remove(key: str, /, *, dry_run: DryRun = False, session: Session = DEFAULT) -> int:
    """Restore the default of a setting.

    For example:

        tawara settings remove skip_mkcol --dry-run
    """
    return await remove_or_preview(
        session, "setting", {"key": key}, lambda client: client.remove_setting(key), dry_run=dry_run
    )
