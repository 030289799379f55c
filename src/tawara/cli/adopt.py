"""`tawara adopt`: adopt a database of MogileFS, or undo that; nothing is changed without --yes."""

from __future__ import annotations

import asyncio
import json as jsonlib
import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.configuration import FILE, Configuration, load, render
from tawara.cli.first_run import write_once
from tawara.cli.usage import MissingArgument
from tawara.metadata import adoption, cluster, findings, replicas
from tawara.metadata.contract import Metadata
from tawara.metadata.fid_locks import open_locks
from tawara.metadata.findings import AdoptionFindings
from tawara.metadata.open import open_metadata
from tawara.metadata.server import NoReply, ServerLimits
from tawara.model import mogilefsd_conf
from tawara.model.errors import ConfigurationError, DatabaseUnavailable, Db, Exit, NodeUnreachable, UsageError
from tawara.model.mogilefsd_conf import ConvertedConfiguration
from tawara.nodes.client import NodeClient

TIMEOUT = ServerLimits(readers=1, writers=1, answer=3600.0)
"""Limits of the database connection: counting the files of a large database or altering its tables takes minutes."""
PASSWORD_FILE = "database.password"  # noqa: S105 - a file's name


def adopt(
    url: str | None = None,
    /,
    *,
    mogilefsd_conf: Annotated[Path | None, Parameter(name="--mogilefsd-conf")] = None,
    write: Path | None = None,
    widen: Annotated[bool, Parameter(negative="")] = False,
    undo: Annotated[bool, Parameter(negative="")] = False,
    yes: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> int:
    """Adopt a database of MogileFS 2.73, or undo that.

    Prints the contents, blockers and planned changes, and makes the changes with --yes. Only Tawara's own tables are
    added, so mogilefsd may run all the time, and after --undo.

    For example:

        tawara adopt mysql://mogile@db/mogilefs

        tawara adopt --mogilefsd-conf /etc/mogilefs/mogilefsd.conf --write /etc/tawara --yes

        tawara adopt mysql://mogile@db/mogilefs --undo --yes

    Parameters
    ----------
    url
        The database. Its password is that of mogilefsd.conf, or TAWARA_DB_PASSWORD.
    mogilefsd_conf
        A configuration of mogilefsd, to be translated.
    write
        With --yes, write tawara.toml, and the password in a file of its own, into this directory.
    widen
        Also widen columns (longer keys, IPv6). mogilefsd can still read them.
    undo
        Remove what was added, and narrow what was widened.
    yes
        Make the changes.
    json
        Print one JSON object.
    """
    moved = _read(mogilefsd_conf)
    if url is None and moved is None:
        raise MissingArgument("adopt", "URL | --mogilefsd-conf FILE", missing="argument: URL")
    if undo and (widen or write):
        raise UsageError("--undo takes neither --widen nor --write")
    database = _absolute(url or (moved.database if moved else ""))
    password = moved.password if moved and moved.password else None
    return asyncio.run(_run(database, password, moved, write=write, widen=widen, undo=undo, yes=yes, json=json))


def _read(path: Path | None) -> ConvertedConfiguration | None:
    if path is None:
        return None
    # Comments and passwords may contain bytes that are not UTF-8.
    return mogilefsd_conf.move(mogilefsd_conf.parse(path.read_text(errors="surrogateescape")))


def _absolute(url: str) -> str:
    """Make a relative path absolute, since the written configuration may be in another directory."""
    scheme, _, path = url.partition(":")
    return f"sqlite://{quote(str(Path(unquote(path)).absolute()))}" if scheme == "sqlite" and path[:1] != "/" else url


async def _run(
    database: str,
    password: str | None,
    moved: ConvertedConfiguration | None,
    *,
    write: Path | None,
    widen: bool,
    undo: bool,
    yes: bool,
    json: bool,
) -> int:
    metadata = await open_metadata(database, password=password, pace=TIMEOUT, any_version=True)
    try:
        found = await metadata.read(findings.examine)
        report: dict[str, Any] = {"database": database, "found": asdict(found)}
        if undo:
            report |= await _undo(metadata, found, yes=yes)
        else:
            report["steps"] = adoption.planned(found, widen=widen)
            if yes:
                report["done"] = await _adopt(metadata, widen=widen)
    finally:
        await metadata.close()
    if not undo:
        configuration = _configuration(database, moved, latin1=found.keys.probably_latin1)
        report["settings"] = configuration
        report["notes"] = [list(note) for note in moved.notes] if moved else []
        if write is not None and yes:
            report["written"] = _write(write, configuration, password)
    if json:
        output.json_line(report)
    else:
        _print_report(report, found, undo=undo, yes=yes)
    return Exit.FAILURE if found.obstacles and not undo else Exit.OK


async def _adopt(metadata: Metadata, *, widen: bool) -> list[str]:
    try:
        return await metadata.write(adoption.adopt, widen=widen, now=await metadata.clock.seconds())
    except (NoReply, DatabaseUnavailable):
        raise
    except Db as error:
        hint = "The database refused. Check that the user may create and alter tables."
        raise ConfigurationError(error.message, hint=hint) from error


# --- undo -------------------------------------------------------------------------------------------------------------


async def _undo(metadata: Metadata, found: AdoptionFindings, *, yes: bool) -> dict[str, Any]:
    adoption.refuse_undo(found)
    if not yes:
        return {"steps": adoption.planned_undo(found)}
    copies = await metadata.write(adoption.settle_copies, now=await metadata.clock.seconds())
    left: list[str] = []
    if copies:
        left = await _delete_copies(metadata, copies)
        await metadata.write(adoption.forget_copies, copies)
    return {"done": await metadata.write(adoption.undo), "left_behind": left}


async def _delete_copies(metadata: Metadata, copies: list[tuple[int, int]]) -> list[str]:
    """Delete the bytes to which no row will refer; return the URLs that could not be deleted."""
    known = await metadata.read(cluster.load)
    locks = open_locks(metadata, ())
    left: list[str] = []
    try:
        async with NodeClient() as nodes:
            for fid, devid in copies:
                url = known.url(devid, fid)
                # A running mogilefsd may be making the same copy, or may have completed it.
                async with locks.hold(fid) as held:
                    if url is None or devid in await metadata.read(replicas.devices_of, fid):
                        continue
                    if not held or not await _is_deleted(nodes, url):
                        left.append(url)
    finally:
        await locks.close()
    return left


async def _is_deleted(nodes: NodeClient, url: str) -> bool:
    try:
        await nodes.delete(url)
    except NodeUnreachable:
        return False
    return True


# --- the configuration ------------------------------------------------------------------------------------------------


def _configuration(database: str, moved: ConvertedConfiguration | None, *, latin1: bool) -> dict[str, str | int]:
    """Return the settings that differ from their defaults, `section.name` -> value.

    `latin1`: mogilefsd's connections use Latin-1, so keys must be read in the same way.
    """
    if latin1 and "keys=" not in database:
        database += f"{'&' if '?' in database else '?'}keys=latin1"
    settings: dict[str, str | int] = {"store.database": database}
    if moved is not None:
        settings["store.beside_mogilefsd"] = socket.gethostname()
        settings |= moved.settings
    return settings


def _rendered(settings: Mapping[str, str | int]) -> str:
    made: Configuration = load(None, environment={}, settings=[f"{name}={value}" for name, value in settings.items()])
    return render(made)


def _write(directory: Path, settings: Mapping[str, str | int], password: str | None) -> list[str]:
    """Write the missing files; return their paths. Raises ConfigurationError if a file exists and differs."""
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    files = {FILE: (_rendered(settings), 0o644)}
    if password is not None:
        files = {
            PASSWORD_FILE: (password + "\n", 0o600),
            FILE: (_rendered({**settings, "store.password_file": PASSWORD_FILE}), 0o644),
        }
    for name, (text, mode) in files.items():
        path = directory / name
        write_once(path, text, mode)
        if path.read_text(errors="surrogateescape") != text:
            raise ConfigurationError(f"{path} exists and differs", hint="Move it away, or omit --write.")
    return [str(directory / name) for name in files]


# --- output -----------------------------------------------------------------------------------------------------------


def _print_report(report: Mapping[str, Any], found: AdoptionFindings, *, undo: bool, yes: bool) -> None:
    _print_findings(report["database"], found)
    if undo:
        _print_list(
            "Not deleted because a device does not answer; harmless, delete them manually:", report.get("left_behind")
        )
    else:
        _print_list("Blockers:", found.obstacles)
        if report["settings"]["store.database"] != report["database"]:
            _print_list("Mind:", ["mogilefsd's connections use Latin-1, so Tawara's must, too: keys=latin1"])
        _print_list("Notes:", found.notes)
        _print_list("Cannot be represented:", found.limits)
        _print_list("tawara.toml:", [f"{name} = {jsonlib.dumps(value)}" for name, value in report["settings"].items()])
        _print_list("No equivalent in tawara.toml:", [f"{key}: {words}" for key, words in report["notes"]])
        _print_list("Written:", report.get("written"))
    if yes:
        _print_list("Done:", report["done"] or ["nothing; everything was done already"])
    elif report["steps"]:
        _print_list("Changes that --yes would make:", report["steps"])
    else:
        output.line("\nNo changes are needed.")


def _print_findings(database: str, found: AdoptionFindings) -> None:
    if found.own_version == 0:
        state = "a database of MogileFS, not adopted"
    else:
        state = "a database of MogileFS, adopted" if found.adopted else "a database that Tawara made"
    output.line(f"{database}: {state}\n")
    domains = [f"{each.name} ({_number(each.files, 'file')})" for each in found.domains]
    rows = [
        ("domains", ", ".join(domains) or "none"),
        ("files", f"{found.files:,}, {output.human_size(found.bytes)}, {_number(found.replicas, 'replica')}"),
        ("hosts", _states(found.hosts)),
        ("devices", _states(found.devices)),
        ("queues", ", ".join(f"{name} {rows:,}" for name, rows in found.queues.items() if rows) or "empty"),
        ("keys", " ".join(filter(None, (found.keys.type, found.keys.collation)))),
    ]
    for name, value in rows:
        output.line(f"  {name:<8} {output.printable(value)}")
    output.line(f"           {found.keys.meaning}")


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _states(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none"


def _print_list(head: str, items: Any) -> None:
    if items:
        output.line(f"\n{head}")
        for item in items:
            output.line(f"  {output.printable(item)}")
