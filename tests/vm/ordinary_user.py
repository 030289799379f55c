"""Runs a command as an ordinary user, who exists in a mount namespace only and has only its own sub-ids."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tawara

_USER = 4711

INSTALLATION = (Path(sys.base_prefix), Path(sys.prefix), Path(tawara.__file__).parents[1])
"""What running `tawara` needs: the interpreter, the virtual environment and the source."""

_START = r"""
set -e
mount --make-rprivate /
for file in passwd group subuid subgid; do
    touch "/etc/$file"
    mount --bind "$1/etc/$file" "/etc/$file"
done
umask 022
home=$1
shift
# Directories that only their owner may enter, such as /root, are covered by ones that hold only what the user needs.
while [ "$1" != -- ]; do # pairs of a needed path and the outermost closed directory above it
    mkdir -p "$home/open$1"
    mount --bind "$1" "$home/open$1"
    echo "$2" >>"$home/closed"
    shift 2
done
shift
if [ -e "$home/closed" ]; then
    sort -u "$home/closed" | while read -r closed; do mount --rbind "$home/open$closed" "$closed"; done
fi
cd "$home/home"
exec setpriv --reuid 4711 --regid 4711 --clear-groups env HOME="$home/home" XDG_CACHE_HOME="$home/home/cache" "$@"
"""


@contextmanager
def run_as_ordinary_user(
    files: dict[str, bytes], command: Sequence[str], needed: Sequence[Path] = INSTALLATION
) -> Iterator[Path]:
    """Run it in a new home directory with the files; the directory exists until the block ends. The user can read
    `needed` below directories that others may not enter."""
    folder = Path(tempfile.mkdtemp(prefix="tawara-user-", dir="/var/tmp"))
    try:
        yield _run(folder, files, command, needed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, files: dict[str, bytes], command: Sequence[str], needed: Sequence[Path]) -> Path:
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
    pairs = [word for path in needed for top in _closed_above(path) for word in (str(path), str(top))]
    words = ["unshare", "--mount", "sh", "-c", _START, "sh", str(folder), *pairs, "--", *command]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def _closed_above(path: Path) -> list[Path]:
    """The outermost directory above `path` that other users may not enter, if any."""
    return [folder for folder in reversed(path.parents) if not folder.stat().st_mode & 1][:1]
