"""`tawara class`: list, add, change and remove storage classes."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import App, Parameter

from tawara.cli import output
from tawara.cli.dry_run import DryRun, remove_or_preview
from tawara.cli.session import DEFAULT, Session
from tawara.model.cluster import HashType

app = App(name="class", help="List, add, change and remove storage classes.")

Copies = Annotated[int, Parameter(name=["--copies", "-n"], help="Copies of each file.")]
Policy = Annotated[str | None, Parameter(help="Replication policy, for instance 'MultipleHosts()'.")]
Hash = Annotated[
    Literal["MD5", "SHA-1", "CRC32C", "CRC64NVME", "NONE"] | None, Parameter(name="--hash", help="Checksum to keep.")
]


@app.command(name=["list", "ls"])
async def show(domain: str | None = None, /, *, session: Session = DEFAULT) -> None:
    """List the classes of a domain, or of all."""
    async with session.client() as client:
        domains = await client.domains()
        if domain is not None:
            await client.classes(domain)
    rows = [(each.name, one) for each in domains if domain in (None, each.name) for one in each.classes]
    if session.json:
        for name, one in rows:
            output.json_line(
                {
                    "domain": name,
                    "class": one.name,
                    "copies": one.mindevcount,
                    "policy": one.replpolicy,
                    "hash": one.hashtype.wire if one.hashtype else None,
                }
            )
    else:
        output.table(
            ("DOMAIN", "CLASS", "COPIES", "POLICY", "HASH"),
            [
                (name, one.name, str(one.mindevcount), one.replpolicy, one.hashtype.wire if one.hashtype else "-")
                for name, one in rows
            ],
            right=(2,),
        )


@app.command
async def add(
    domain: str,
    name: str,
    /,
    *,
    copies: Copies,
    policy: Policy = None,
    hashtype: Hash = None,
    session: Session = DEFAULT,
) -> None:
    """Add a class.

    For example:

        tawara class add photos thumbnails --copies 1
        tawara class add photos archive --copies 2 --hash CRC64NVME
    """
    async with session.client() as client:
        await client.create_class(
            domain, name, mindevcount=copies, replpolicy=policy, hashtype=HashType.from_wire(hashtype or "")
        )


@app.command
async def change(
    domain: str,
    name: str,
    /,
    *,
    copies: Annotated[int | None, Parameter(name=["--copies", "-n"], help="Copies of each file.")] = None,
    policy: Policy = None,
    hashtype: Hash = None,
    session: Session = DEFAULT,
) -> None:
    """Change a class; values that are not given stay the same.

    With more copies than before, or another policy, the workers queue all files of the class within seconds. With fewer
    copies, surplus replicas stay until the file is checked, for example by `tawara fsck start`. A different checksum
    type applies to files that are stored from now on.

    For example:

        tawara class change photos thumbnails --copies 3
    """
    async with session.client() as client:
        if copies is None:
            copies = next((one.mindevcount for one in await client.classes(domain) if one.name == name), 1)
        await client.update_class(
            domain,
            name,
            mindevcount=copies,
            replpolicy=policy,
            hashtype=HashType.from_wire(hashtype or ""),
            no_hashtype=hashtype == "NONE",
        )


@app.command(name=["remove", "rm"])
async def remove(domain: str, name: str, /, *, dry_run: DryRun = False, session: Session = DEFAULT) -> int:
    """Remove a class that has no files.

    For example:

        tawara class remove photos thumbnails --dry-run
    """
    return await remove_or_preview(
        session,
        "class",
        {"domain": domain, "class": name},
        lambda client: client.delete_class(domain, name),
        dry_run=dry_run,
    )
