"""Run a command as an ordinary user: one that exists in a mount namespace only, with nothing but sub-ids of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_USER = 4711

_START = r"""
set -e
mount --make-rprivate /
for file in passwd group subuid subgid; do
    touch "/etc/$file"
    mount --bind "$1/etc/$file" "/etc/$file"
done
if [ -n "$2" ]; then # the interpreter is in a folder that others may not enter, such as /root
    mkdir -p "$1/open/${3#"$2"}"
    mount --bind "$3" "$1/open/${3#"$2"}"
    mount --rbind "$1/open" "$2"
fi
cd "$1/home"
home=$1
shift 3
exec setpriv --reuid 4711 --regid 4711 --clear-groups env HOME="$home/home" XDG_CACHE_HOME="$home/home/cache" "$@"
"""


@contextmanager
def run_as_ordinary_user(files: dict[str, bytes], command: Sequence[str]) -> Iterator[Path]:
    """Run it in a fresh home that holds the files; the home is there until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="tawara-user-", dir="/var/tmp"))
    try:
        yield _run(folder, files, command)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, files: dict[str, bytes], command: Sequence[str]) -> Path:
    folder.chmod(0o755)
    home, etc = folder / "home", folder / "etc"
    home.mkdir()
    etc.mkdir()
    for name in ("passwd", "group"):
        (etc / name).write_text(Path("/etc", name).read_text())
    with (etc / "passwd").open("a") as passwd, (etc / "group").open("a") as group:
        passwd.write(f"builder:x:{_USER}:{_USER}::{home}:/bin/sh\n")
        group.write(f"builder:x:{_USER}:\n")
    for name in ("subuid", "subgid"):
        (etc / name).write_text("builder:700000:65536\n")
    for name, content in files.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_bytes(content)
    subprocess.run(["chown", "-R", f"{_USER}:{_USER}", str(home)], check=True)
    python = Path(sys.base_prefix)
    closed = next((str(path) for path in reversed(python.parents) if not path.stat().st_mode & 1), "")
    words = ["unshare", "--mount", "sh", "-c", _START, "sh", str(folder), closed, str(python), *command]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    return home
