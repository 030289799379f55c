"""`tawara settings`: list, change and remove the cluster's settings."""

from __future__ import annotations

from cyclopts import App

from tawara.cli import output
from tawara.cli.dry_run import DryRun, remove_or_say
from tawara.cli.session import DEFAULT, Session

app = App(name="settings", help="List, change and remove the cluster's settings.")


@app.command(name=["list", "ls"])
async def show(*, session: Session = DEFAULT) -> None:
    """List the settings."""
    async with session.client() as client:
        settings = await client.settings()
    if session.json:
        output.json_line(dict(sorted(settings.items())))
    else:
        output.table(("SETTING", "VALUE"), sorted(settings.items()))


@app.command
async def get(key: str, /, *, session: Session = DEFAULT) -> None:
    """Print one setting."""
    async with session.client() as client:
        value = await client.setting(key)
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
    """Have a setting be what it is when nobody sets it.

    For example:

        tawara settings remove skip_mkcol --dry-run
    """
    return await remove_or_say(
        session, "setting", {"key": key}, lambda client: client.remove_setting(key), dry_run=dry_run
    )
