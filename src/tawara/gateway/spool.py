"""The spool: the directory in which nginx receives bodies. Everything here blocks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

import structlog

from tawara.model.errors import UnavailableError

log = structlog.get_logger(__name__)

BODIES: Final = "bodies"
"""The directory of the spool that has the bodies, and the name by which nginx knows it."""


class SpoolFull(UnavailableError):
    """The gateway's spool has no space for the body of a request."""

    code = "spool_full"
    message = "There is no space on the gateway's disk to receive the file"
    http = 507
    hint = "Make space on the file system of gateway.spool, or set another."


class Spool:
    """The bodies below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.bodies = self.directory / BODIES

    def make(self) -> bool:
        """Make the directory of bodies if it is not there; False if it was. Raises OSError."""
        with suppress(FileExistsError):
            self.directory.mkdir(mode=0o700, parents=True)
        try:
            self.bodies.mkdir(mode=0o700)
        except FileExistsError:
            return False
        return True

    def empty(self) -> None:
        """Remove what an earlier nginx had received, and make the directory. Raises OSError."""
        shutil.rmtree(self.bodies, ignore_errors=True)
        self.make()

    def check(self, size: int) -> None:
        """See that a body of `size` bytes can be received now; a directory that was removed is made anew.

        Raises SpoolFull.
        """
        try:
            if self.make():
                log.warning("spool_made_anew", directory=str(self.bodies))
            facts = os.statvfs(self.bodies)
        except OSError as error:
            log.warning("spool_unusable", directory=str(self.bodies), reason=error.strerror)
            raise SpoolFull from error
        if size + facts.f_frsize > facts.f_bavail * facts.f_frsize or (facts.f_files and not facts.f_favail):
            raise SpoolFull

    def body(self, name: str) -> Path | None:
        """The file of a received body by the name that nginx gives it; None if it is not one of its files."""
        path = PurePosixPath(name)
        return self.bodies / path.name if str(path.parent) == BODIES and path.name.isdigit() else None

    def names(self) -> set[str]:
        """The bodies that are there now. Raises OSError."""
        return {name for name in os.listdir(self.bodies) if name.isdigit()}  # noqa: PTH208 - only names

    def remove(self, names: Collection[str]) -> None:
        """Remove bodies that nobody will ask for. Raises OSError."""
        for name in names:
            (self.bodies / name).unlink(missing_ok=True)
