"""The protocol of a service manager, systemd's: notifications (sd_notify(3)) and listening sockets (sd_listen_fds(3)).

Listening sockets are stored with the manager, which returns them to the next process of the service. Clients that
connect during a restart wait in the backlog instead of being refused.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from tawara.listening import take as listening_socket

log = structlog.get_logger(__name__)

_FIRST: Final = 3
"""The first descriptor that the manager passes (SD_LISTEN_FDS_START)."""
_MOST: Final = 1024


def notify(*lines: str, descriptors: tuple[int, ...] = ()) -> bool:
    """Send lines and descriptors to the service manager; return whether there is one ($NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return False
    name = "\0" + address[1:] if address[0] == "@" else str(Path(address))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told, suppress(OSError):
        told.sendmsg(["\n".join(lines).encode()], rights, 0, name)  # the manager's own timeout handles an error
    return True


def is_managed() -> bool:
    """Return whether a service manager has started this process."""
    return bool(os.environ.get("NOTIFY_SOCKET"))


def watchdog_period() -> float | None:
    """Return the seconds between two signs of life that the manager expects, None without a watchdog."""
    wanted, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isascii() or not wanted.isdigit() or pid not in ("", str(os.getpid())):
        return None
    return max(0.1, int(wanted) / 1_000_000 / 2)


def take_stored() -> dict[str, socket.socket]:
    """Return the listening sockets from the manager by name; call it once. Without a manager there are none."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isascii() or not count.isdigit() or int(count) > _MOST:
        return {}
    found: dict[str, socket.socket] = {}
    for number in range(int(count)):
        descriptor = _FIRST + number
        os.set_inheritable(descriptor, False)
        name = names[number] if number < len(names) else ""
        with suppress(OSError):  # it is no socket
            each = socket.socket(fileno=descriptor)
            if name in found or not _is_listening(each):
                each.close()
            else:
                found[name] = each
    return found


class SocketKeeper:
    """The listening sockets of a daemon: those that the manager has stored, and new ones, which it then stores."""

    def __init__(self, stored: Mapping[str, socket.socket]) -> None:
        self._stored = dict(stored)

    def has(self, part: str, address: tuple[str, int]) -> bool:
        """Return whether a socket for the listener `part` on `address` is stored, for any process."""
        prefix = _name_of(part, 0).removesuffix("0")
        return any(name.startswith(prefix) and _has_address(each, address) for name, each in self._stored.items())

    def take(self, part: str, number: int, address: tuple[str, int], *, reuse_port: bool = False) -> socket.socket:
        """Return a socket of process `number` that listens on `address`. Raises PortTaken."""
        name = _name_of(part, number)
        stored = self._stored.pop(name, None)
        if stored is not None:
            if _has_address(stored, address):
                return stored
            _drop(name, stored)
        listening = listening_socket(address, f"the {part}", reuse_port=reuse_port)
        notify("FDSTORE=1", f"FDNAME={name}", descriptors=(listening.fileno(),))
        return listening

    def drop_unused(self) -> None:
        """Close the sockets that were stored and not taken, here and in the manager: no process accepts from them."""
        for name, listening in self._stored.items():
            log.info("stored_socket_dropped", name=name)
            _drop(name, listening)
        self._stored.clear()


def _drop(name: str, listening: socket.socket) -> None:
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")
    listening.close()


def _name_of(part: str, number: int) -> str:
    """Return the name under which a socket is stored: the listener, and the number of the process."""
    return f"{part.replace(' ', '-').lower()}.{number}"


def _has_address(listening: socket.socket, address: tuple[str, int]) -> bool:
    host, port = address
    with suppress(OSError):
        _, _, _, _, resolved = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return bool(listening.getsockname()[:2] == resolved[:2])
    return False


def _is_listening(each: socket.socket) -> bool:
    return bool(each.type == socket.SOCK_STREAM and each.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
