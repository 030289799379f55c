"""The spool: the directory in which nginx receives bodies. All methods block."""

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
"""Name of the spool's directory of bodies, also in nginx's configuration."""


class SpoolFull(UnavailableError):
    """The gateway's spool has no space for the body of a request."""

    code = "spool_full"
    message = "There is no space on the gateway's disk to receive the file"
    http = 507
    hint = "Make space on the file system of gateway.spool, or set another."


class Spool:
    """A directory of received bodies."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.bodies = self.directory / BODIES

    def make(self) -> bool:
        """Create the directory of bodies; return False if it existed. Raises OSError."""
        with suppress(FileExistsError):
            self.directory.mkdir(mode=0o700, parents=True)
        try:
            self.bodies.mkdir(mode=0o700)
        except FileExistsError:
            return False
        return True

    def empty(self) -> None:
        """Remove the bodies that an earlier nginx received, and create the directory. Raises OSError."""
        shutil.rmtree(self.bodies, ignore_errors=True)
        self.make()

    def check(self, size: int) -> None:
        """Check that a body of `size` bytes can be received now; a removed directory is created again.

        Raises SpoolFull.
        """
        try:
            if self.make():
                log.warning("spool_recreated", directory=str(self.bodies))
            facts = os.statvfs(self.bodies)
        except OSError as error:
            log.warning("spool_unusable", directory=str(self.bodies), reason=error.strerror)
            raise SpoolFull from error
        if size + facts.f_frsize > facts.f_bavail * facts.f_frsize or (facts.f_files and not facts.f_favail):
            raise SpoolFull

    def body(self, name: str) -> Path | None:
        """Return the file of a received body by the name that nginx gives it; None if it is not in the spool."""
        path = PurePosixPath(name)
        return self.bodies / path.name if str(path.parent) == BODIES and path.name.isdigit() else None

    def names(self) -> set[str]:
        """Return the names of the bodies. Raises OSError."""
        return {name for name in os.listdir(self.bodies) if name.isdigit()}  # noqa: PTH208 - only names

    def remove(self, names: Collection[str]) -> None:
        """Remove bodies that no request refers to. Raises OSError."""
        for name in names:
            (self.bodies / name).unlink(missing_ok=True)
