"""Creates a store's directory before `tawara up DIR` starts its components.

Each step checks whether it is done already, so that the next run completes a first run that was interrupted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from tawara.cli.configuration import FILE, Configuration, DavSection, S3Section, load, render
from tawara.metadata import cluster
from tawara.metadata.contract import Metadata, Transaction
from tawara.model.cluster import HostState
from tawara.store import key_file
from tawara.wire.installation_key import render_key_file

DOMAIN = "files"
"""The domain of a new store."""
HOST = "local"
"""The name of this machine in a store that began with `tawara up`."""
DEVICES = 4


def write_once(path: Path, text: str, mode: int) -> None:
    """Write a file with `mode` atomically unless it exists; it never has wider permissions than `mode`."""
    if path.exists():
        return
    unfinished = path.with_name(".tawara.new")  # short enough for any file system
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(unfinished, path)
    unfinished.unlink()


def prepare_directory(directory: Path, settings: list[str]) -> Configuration:
    """Create the directory, configuration, both key files and devices if missing; return the configuration."""
    directory.mkdir(mode=0o750, parents=True, exist_ok=True)
    further = Configuration(s3=S3Section(listen="127.0.0.1:7081"), dav=DavSection(listen="127.0.0.1:7082"))
    write_once(directory / FILE, render(further), 0o644)
    configuration = load(directory / FILE, settings=settings)
    write_once(directory / configuration.gateway.key_file, secrets.token_urlsafe(32) + "\n", 0o600)
    write_once(directory / configuration.store.keys_file, render_key_file([key_file.new_key()]), 0o600)
    devices = directory / configuration.node.devices
    if not devices.exists():
        unfinished = devices.with_name(".tawara-devices.new")
        for number in range(1, DEVICES + 1):
            (unfinished / f"dev{number}").mkdir(parents=True, exist_ok=True)
        unfinished.rename(devices)
    return configuration


async def _describe(tx: Transaction, *, ip: str, port: int) -> None:
    found = await cluster.load(tx)
    if not found.hosts and not found.domains:
        await cluster.create_domain(tx, DOMAIN)
        hostid = await cluster.create_host(tx, HOST, ip=ip, http_port=port, state=HostState.ALIVE)
        for devid in range(1, DEVICES + 1):
            await cluster.create_device(tx, devid, hostid)
    elif (host := found.hosts_by_name.get(HOST)) and (host.ip, host.http_port) != (ip, port):
        await cluster.update_host(tx, HOST, ip=ip, http_port=port)


async def describe_machine(metadata: Metadata, *, ip: str, port: int) -> None:
    """Record this machine's storage node: host and devices in an empty database, otherwise a changed address."""
    await metadata.write(_describe, ip=ip, port=port)
