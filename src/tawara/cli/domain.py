"""`tawara domain`: list, add and remove domains."""

from __future__ import annotations

from cyclopts import App

from tawara.cli import output
from tawara.cli.dry_run import DryRun, remove_or_preview
from tawara.cli.session import DEFAULT, Session

app = App(name="domain", help="List, add and remove domains.")


@app.command(name=["list", "ls"])
async def show(*, session: Session = DEFAULT) -> None:
    """List the domains."""
    async with session.client() as client:
        domains = await client.domains()
    if session.json:
        for each in domains:
            output.json_line({"domain": each.name, "classes": [one.name for one in each.classes]})
    else:
        output.table(
            ("DOMAIN", "CLASSES"), [(each.name, ", ".join(one.name for one in each.classes)) for each in domains]
        )


@app.command
async def add(domain: str, *, session: Session = DEFAULT) -> None:
    """Add a domain.

    For example:

        tawara domain add photos
    """
    async with session.client() as client:
        await client.create_domain(domain)


@app.command(name=["remove", "rm"])
async def remove(domain: str, *, dry_run: DryRun = False, session: Session = DEFAULT) -> int:
    """Remove a domain that has neither files nor classes of its own.

    For example:

        tawara domain remove photos --dry-run
    """
    return await remove_or_preview(
        session, "domain", {"domain": domain}, lambda client: client.delete_domain(domain), dry_run=dry_run
    )
