"""`tawara settings`: list and change the cluster's settings."""

from __future__ import annotations

from cyclopts import App

from tawara.cli import output
from tawara.cli.session import DEFAULT, Session

app = App(name="settings", help="List and change the cluster's settings.")


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
