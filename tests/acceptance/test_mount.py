"""`tawara mount`: a domain as a directory, by the real rclone and FUSE, while the gateway and rclone are killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tawara.client import Client
from tests.acceptance.store import TAWARA, Store

FILES = int(os.environ.get("TAWARA_MOUNT_FILES", "60"))
"""Files that are written through the mount."""
DIRECTORIES = 5
SECONDS = 300.0
"""Most seconds to wait for anything."""

pytestmark = pytest.mark.timeout(900)


@dataclass
class Mounted:
    """A store that serves WebDAV, and a directory at which its domain `files` can be mounted."""

    store: Store
    url: str
    directory: Path
    key: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, name: str, *arguments: str) -> list[str]:
        """A command with the state directory of the test."""
        return [*TAWARA, name, *arguments, "--state", str(self.directory.with_name("state"))]

    def mount(self, *options: str) -> None:
        """Mount in the foreground; wait for the notification that systemd would wait for."""
        listening = self.directory.with_name("notify")
        listening.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
            notified.bind(str(listening))
            notified.settimeout(SECONDS)
            command = self.command("mount", "files", str(self.directory), "--url", self.url, "--key", str(self.key))
            environment = {**os.environ, "NOTIFY_SOCKET": str(listening)}
            self.processes.append(subprocess.Popen([*command, *options], env=environment))
            while b"READY=1" not in notified.recv(1000):
                pass

    def umount(self) -> None:
        """Unmount when all files are stored; rclone then ends."""
        done = subprocess.run(
            self.command("umount", str(self.directory)), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        assert self.processes[-1].wait(60) == 0


@contextmanager
def mounted(directory: Path) -> Iterator[Mounted]:
    """A store below `directory`; at the end nothing is mounted and no process is left."""
    store = Store(directory / "store")
    store.start()
    (directory / "drive").mkdir()
    one = Mounted(store, f"http://{store.webdav}", directory / "drive", store.directory / "access-key")
    try:
        yield one
    finally:
        for process in one.processes:
            process.kill()
            process.wait()
        subprocess.run(["umount", "-l", one.directory], capture_output=True, check=False)
        store.kill()


def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@dataclass
class Writer:
    """Writes files into a mount, renames and reads them; keeps what fsync, close and rename acknowledged."""

    root: Path
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    failures: list[OSError] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    done: int = 0

    def run(self) -> None:
        """Write all files."""
        for number in range(FILES):
            name, content = f"{number % DIRECTORIES}/{number}", os.urandom(1 + number * 97 % 20_000)
            try:
                self._write(name, content)
                self.acknowledged[name] = content
                if number % 3 == 0 and (self.root / name).read_bytes() != content:
                    self.wrong.append(name)
            except OSError as error:
                self.failures.append(error)
            self.done = number + 1

    def _write(self, name: str, content: bytes) -> None:
        path = self.root / name
        descriptor = os.open(path.with_name(f".{path.name}.part"), os.O_CREAT | os.O_WRONLY)
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        path.with_name(f".{path.name}.part").rename(path)


def needs_fuse() -> None:
    """Skip a test where nothing can be mounted."""
    if not os.access("/dev/fuse", os.W_OK) or not (shutil.which("fusermount3") or shutil.which("fusermount")):
        pytest.skip("cannot mount: needs /dev/fuse and fusermount")


def test_what_a_mount_acknowledged_is_stored(tmp_path: Path) -> None:
    """Files written, renamed and read through a mount are in the store after umount, though gateway and rclone die."""
    needs_fuse()
    with mounted(tmp_path) as one:
        one.mount()
        for number in range(DIRECTORIES):
            (one.directory / str(number)).mkdir()
        writer = Writer(one.directory)
        thread = threading.Thread(target=writer.run)
        thread.start()
        for share in (0.2, 0.5):
            until(lambda share=share: writer.done >= share * FILES)  # type: ignore[misc]
            one.store.kill()
            one.store.start()
        until(lambda: writer.done >= 0.8 * FILES)
        one.processes[-1].kill()
        one.processes[-1].wait(SECONDS)
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert writer.wrong == []
        assert len(writer.acknowledged) >= 0.5 * FILES, writer.failures
        one.mount()
        (one.directory / "0").rename(one.directory / "moved")
        assert (one.directory / "moved" / "0").read_bytes() == writer.acknowledged["0/0"]
        one.umount()
        with Client(one.store.tracker) as client:
            for name, content in writer.acknowledged.items():
                stored = client.get("files", name.replace("0/", "moved/", 1) if name.startswith("0/") else name)
                assert stored == content, name


def test_a_close_that_stores(tmp_path: Path) -> None:
    """With --close-stores a file is in the store when `close` returns; the mount shows what others store and delete."""
    needs_fuse()
    with mounted(tmp_path) as one, Client(one.store.tracker) as client:
        one.mount("--close-stores")
        again = one.command("mount", "files", str(one.directory), "--key", str(one.key))
        refused = subprocess.run(again, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert (refused.returncode, "is mounted already" in refused.stderr) == (4, True)
        (one.directory / "a").write_bytes(b"12345")
        assert client.get("files", "a") == b"12345"
        client.put("files", "b/c", b"by another")
        until((one.directory / "b" / "c").exists)
        assert (one.directory / "b" / "c").read_bytes() == b"by another"
        (one.directory / "a").unlink()
        assert not client.exists("files", "a")
        one.processes[-1].send_signal(signal.SIGTERM)
        assert one.processes[-1].wait(60) in (0, 143)
        assert not one.directory.is_mount()
