"""Reports that a daemon is ready: on standard output, and to the service manager that started it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from tawara.cli import service_manager, streams

if TYPE_CHECKING:
    from tawara.cli.assembly import Running

log = structlog.get_logger(__name__)


def say(store: Running, what: str, *notes: str, as_json: bool, processes: int = 1) -> None:
    """Print the components with their addresses, and `notes`; notify the service manager."""
    many = f", in {processes} processes" if processes > 1 else ""
    where = [f"  {name}  {address}" for name, address in store.addresses.items()]
    lines = [f"Tawara runs {what}{many}. Ctrl-C stops it.", *where, *notes]
    announce(store, "\n".join(lines), as_json=as_json, processes=processes)


def announce(store: Running, text: str, *, as_json: bool, **facts: int) -> None:
    """Write `text`, or the same facts as JSON, to standard output; notify the service manager."""
    if as_json:
        addresses = {"addresses": store.addresses, **facts}
        text = json.dumps({"event": "ready", "directory": str(store.directory), **addresses})
    if error := streams.announce(text):
        log.warning("ready_line_not_written", reason=error.strerror)
    service_manager.notify("READY=1")
