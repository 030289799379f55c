"""Options of commands that open the database directly: URL, password, timeout."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tawara.cli.assembly import database_url, make_signer
from tawara.cli.configuration import FILE, Configuration, load
from tawara.cli.log import configure_command
from tawara.metadata.contract import Metadata
from tawara.metadata.open import open_existing, open_metadata
from tawara.metadata.server import ServerLimits
from tawara.model.errors import ConfigurationError
from tawara.nodes.signing import RequestSigner
from tawara.store.key_file import KeyFile

TIMEOUT = ServerLimits(readers=2, writers=1, answer=6 * 3600.0)
"""Limits of the database connection: reading a whole large database takes hours."""


@Parameter(name="*")
@dataclass(frozen=True)
class Database:
    """The options that select the database."""

    config: Annotated[Path, Parameter(name=["--config", "-c"], help="The configuration of the store.")] = Path(FILE)
    url: Annotated[
        str, Parameter(name="--database", help="URL of the database; default: that of the configuration.")
    ] = ""
    password_file: Annotated[
        Path | None, Parameter(name="--password-file", help="File with its password; default: TAWARA_DB_PASSWORD.")
    ] = None

    @asynccontextmanager
    async def open(self, *, any_version: bool = False) -> AsyncIterator[Metadata]:
        """Open the existing database; with `any_version` also one of another version of Tawara.

        Raises ConfigurationError, Db.
        """
        configure_command()
        url, password_file = self.url, self.password_file
        if not url:
            configuration, directory = self.configuration(), self.config.absolute().parent
            url = database_url(configuration, directory)
            if password_file is None and configuration.store.password_file:
                password_file = directory / configuration.store.password_file
        if any_version:
            metadata = await open_metadata(url, password_file=password_file, pace=TIMEOUT, any_version=True)
        else:
            metadata = await open_existing(url, password_file=password_file, pace=TIMEOUT)
        try:
            yield metadata
        finally:
            await metadata.close()

    def configuration(self) -> Configuration:
        """Read the configuration of the store. Raises ConfigurationError."""
        if not self.config.exists():
            raise ConfigurationError(f"Not found: configuration {self.config}", hint="Use -c FILE or --database URL.")
        return load(self.config)

    def key_file(self, given: Path | None) -> KeyFile:
        """Return the installation's key file: `given`, or that of the configuration. Raises ConfigurationError."""
        if given is not None:
            return KeyFile(given)
        if self.url and not self.config.exists():
            raise ConfigurationError(
                "--database without a configuration needs the key file", hint="Use --key-file FILE."
            )
        return KeyFile(self.config.absolute().parent / self.configuration().store.keys_file)

    def signer(self) -> RequestSigner | None:
        """Return what signs requests to storage nodes, if the configuration says so. Raises ConfigurationError."""
        if not self.config.exists():
            return None
        return make_signer(load(self.config), self.config.absolute().parent)


HERE = Database()
