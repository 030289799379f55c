"""`tawara vm publish`: upload a built repository into the store, in an order that readers can bear."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.put import checksum_type
from tawara.cli.session import DEFAULT, Session, place
from tawara.cli.transfers import Force, Jobs, TransferResult, Verbose, each
from tawara.client import AsyncClient
from tawara.model import errors
from tawara.model.cluster import HashType
from tawara.model.errors import Exit
from tawara.vm.repository import IndexedFile, named_files, publication_stages, repository_files


async def publish(
    folder: Path,
    target: str,
    /,
    *,
    delete: bool = False,
    storage_class: Annotated[str, Parameter(name=["--class", "-c"])] = "",
    force: Force = False,
    jobs: Jobs = 4,
    verbose: Verbose = False,
    session: Session = DEFAULT,
) -> int:
    """Publish a repository that `tawara vm build` made: hosts install from the store's gateway.

    `tawara vm publish DIST DOMAIN/PREFIX`. Packages are uploaded first and indexes last, so that a host that reads
    meanwhile finds a complete repository, the former or the new one. What is stored already is skipped; an interrupted
    command is repeated. A repository whose indexes do not match its files is refused.

    For example:

        tawara domain add packages
        tawara vm publish dist packages/stable
        tawara vm publish dist packages/stable --delete

    Parameters
    ----------
    folder
        The repository, `dist` by default of `tawara vm build`.
    target
        Domain and prefix: the gateway serves it at /DOMAIN/PREFIX/.
    delete
        Also delete what is stored below the prefix and is not in the repository any more. A host that read the former
        index a moment ago has to read it again.
    storage_class
        Storage class of the new files.
    """
    names = await asyncio.to_thread(repository_files, folder)
    async with session.client() as client:
        domain, prefix = await place(client, target)
        prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        checksum = await checksum_type(client, domain, storage_class, checksum=True)
        published = {} if force else await _published(client, domain, prefix)
        upload = _Upload(client, folder, domain, prefix, storage_class, checksum, names, published)
        for stage in publication_stages(names):
            ended = await each(
                stage, upload.store, upload.failed, at_once=max(1, jobs), as_json=session.json, verbose=verbose
            )
            if ended:
                output.note("The indexes are left as they were, where they were not reached. Repeat the command.")
                return ended
        if delete and (ended := await _delete_others(upload, names, as_json=session.json, verbose=verbose)):
            return ended
    if not session.json:
        output.line(_next(domain, prefix, signed="key.asc" in names))
    return Exit.OK


@dataclass(frozen=True)
class _Upload:
    """Stores files of the repository below the prefix."""

    client: AsyncClient
    folder: Path
    domain: str
    prefix: str
    storage_class: str
    checksum: HashType | None
    files: Mapping[str, IndexedFile | None]
    published: Mapping[str, IndexedFile]
    """What the indexes that are stored now name."""

    async def store(self, name: str) -> TransferResult:
        """Store one file, unless the stored indexes name it with the same content."""
        path, key, named = self.folder / name, self.prefix + name, self.files[name]
        if named is not None and named == self.published.get(name) and await self._is_there(key, named.size):
            return TransferResult("skipped", str(path), self.domain, key, named.size)
        stored = await self.client.put(self.domain, key, path, storage_class=self.storage_class, checksum=self.checksum)
        return TransferResult("stored", str(path), self.domain, key, stored.length, stored.fid)

    async def _is_there(self, key: str, size: int) -> bool:
        try:
            return (await self.client.info(self.domain, key)).length == size
        except errors.UnknownKey:
            return False

    def failed(self, name: str, error: errors.TawaraError | OSError) -> TransferResult:
        """Describe a failure."""
        return TransferResult("failed", str(self.folder / name), self.domain, self.prefix + name, error=error)


async def _published(client: AsyncClient, domain: str, prefix: str) -> dict[str, IndexedFile]:
    """Return what the stored indexes name; nothing where there is none, or where one is damaged."""
    stored: dict[str, bytes | None] = {}

    async def fetch(name: str) -> None:
        try:
            stored[name] = await client.get(domain, prefix + name)
        except errors.UnknownKey:
            stored[name] = None

    try:
        for name in ("Release", "Packages", "repodata/repomd.xml"):
            await fetch(name)
        for name in [name for name in named_files(stored.get) if name.endswith("-primary.xml.gz")]:
            await fetch(name)
        return named_files(stored.get)
    except (errors.TawaraError, ValueError, KeyError, SyntaxError, OSError):
        return {}  # all files are stored again


async def _delete_others(upload: _Upload, names: Iterable[str], *, as_json: bool, verbose: bool) -> Exit:
    """Delete the keys below the prefix that the repository does not have."""
    kept = {upload.prefix + name for name in names}
    others = [key async for key in upload.client.list_keys(upload.domain, upload.prefix) if key not in kept]

    async def remove(key: str) -> TransferResult:
        await upload.client.delete(upload.domain, key)
        return TransferResult("deleted", "", upload.domain, key)

    def failed(key: str, error: errors.TawaraError | OSError) -> TransferResult:
        return TransferResult("failed", "", upload.domain, key, error=error)

    return await each(others, remove, failed, at_once=4, as_json=as_json, verbose=verbose)


def _next(domain: str, prefix: str, *, signed: bool) -> str:
    """Return the lines by which hosts use the repository."""
    place = f"http://GATEWAY:7080/{domain}/{prefix}"
    by = "[signed-by=/etc/apt/keyrings/tawara.asc]" if signed else "[trusted=yes]"
    checks = f" repo_gpgcheck=1 gpgkey={place}key.asc" if signed else ""
    lines = [
        f"Published as /{domain}/{prefix}. On a host, with the name of your gateway:",
        *([f"  curl -fo /etc/apt/keyrings/tawara.asc {place}key.asc"] if signed else []),
        f"  apt: deb {by} {place} ./",
        f"  dnf: baseurl={place}{checks} gpgcheck=0",
    ]
    return "\n".join(lines)
