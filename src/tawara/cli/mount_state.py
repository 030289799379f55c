"""The directory that a mount keeps on this machine: files that are not stored yet, and rclone's configuration."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tawara.cli.first_key import FORM
from tawara.model.errors import ConflictError, DeniedError, NotFoundError, UsageError

REMOTE: Final = "tawara"
"""The store's name in rclone's configuration, and so part of the paths below."""


class KeyFileUnsafe(DeniedError):
    """Other users can read the file with the secret."""

    code = "key_file_unsafe"
    message = "Other users can read the file"
    hint = "chmod 600 FILE"


class PendingFiles(ConflictError):
    """Files of another mount at the same directory are not stored yet."""

    code = "pending_files"
    message = "Files of another mount are not stored yet"
    hint = None


@dataclass(frozen=True, slots=True)
class MountKey:
    """An access key."""

    id: str
    secret: str

    @classmethod
    def load(cls, path: Path) -> MountKey:
        """Read a file: the output of `tawara key create --json`, a line `ID:SECRET`, or the form of the AWS tools.

        Raises NotFoundError, KeyFileUnsafe, UsageError.
        """
        try:
            text = path.read_text()
            mode = path.stat().st_mode
        except FileNotFoundError:
            hint = "`umask 077; tawara key create NAME --domain 'DOMAIN=rw' --json > FILE` creates a key and its file."
            raise NotFoundError(f"Not found: {path}", hint=hint) from None
        if mode & 0o077:
            raise KeyFileUnsafe(f"Other users can read {path}", hint=f"chmod 600 {path}")
        key = _parse_key(text)
        if key is None or not all(each and each.isprintable() for each in (key.id, key.secret)):
            hint = "Name the file `access-key` of a new store, or one with the output of `tawara key create --json`."
            raise UsageError(f"{path} has no access key", hint=hint)
        return key


def _parse_key(text: str) -> MountKey | None:
    try:
        found = json.loads(text)
    except ValueError:
        if aws := FORM.search(text):
            return MountKey(aws[1], aws[2])
        name, colon, secret = text.strip().partition(":")
        return MountKey(name, secret) if colon else None
    named = isinstance(found, dict) and all(isinstance(found.get(each), str) for each in ("id", "secret"))
    return MountKey(found["id"], found["secret"]) if named else None


@dataclass(frozen=True, slots=True)
class MountState:
    """The state directory of the mount at one directory."""

    path: Path

    @classmethod
    def of(cls, mount: Path, base: Path | None) -> MountState:
        """Return the state of the mount at an absolute path; `base` None: below the user's state directory."""
        if base is None:
            base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tawara" / "mounts"
        return cls(base.absolute() / hashlib.sha256(os.fsencode(mount)).hexdigest()[:16])

    @property
    def configuration(self) -> Path:
        """The configuration file of rclone, which has the secret."""
        return self.path / "rclone.conf"

    @property
    def log(self) -> Path:
        """The log of a mount in the background."""
        return self.path / "rclone.log"

    def prepare(self, url: str, domain: str) -> None:
        """Create the directory for a mount of a domain. Raises PendingFiles if it has files of another one."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = self.path / "mount.json"
        wanted = {"url": url, "domain": domain}
        before = json.loads(record.read_text()) if record.exists() else wanted
        if before != wanted and (pending := self.pending()):
            raise PendingFiles(
                f"{pending} files written to {before['url']}, domain {before['domain']}, are not stored yet",
                hint="Mount that again to store them, or name another directory with --state.",
            )
        record.write_text(json.dumps(wanted))

    def configure(self, url: str, key: MountKey, obscured: str) -> None:
        """Write rclone's configuration, readable by this user only. `obscured`: the secret as `rclone obscure` has it.

        The remote has a name, since rclone derives the name of one that is given by environment variables from the
        obscured secret, which differs each time: files that are not stored yet would not be found again.
        """
        lines = [f"[{REMOTE}]", "type = webdav", "vendor = other", f"url = {url}", f"user = {key.id}"]
        text = "\n".join([*lines, f"pass = {obscured}", ""])
        descriptor = os.open(self.configuration, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)

    def pending(self) -> int:
        """Return the number of files that are not stored yet."""
        return sum(map(_is_pending, (self.path / "vfsMeta").rglob("*")))


def _is_pending(path: Path) -> bool:
    """Whether rclone's record of a cached file says that the file has to be stored."""
    try:
        return path.is_file() and bool(json.loads(path.read_text()).get("Dirty"))
    except FileNotFoundError:
        return False
    except ValueError:  # being written
        return True
