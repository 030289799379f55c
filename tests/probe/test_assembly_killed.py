"""The process that assembles a file is killed before and after each of its system calls: whole or absent."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tawara.disks import incoming
from tawara.disks.devices import Devices
from tawara.disks.file_assembly import FileAssembly
from tawara.disks.identity import RECORDS
from tawara.disks.paths import IDENTITY
from tawara.model import fid as fids
from tawara.model.assembling import ByteRange
from tawara.model.cluster import HashType
from tawara.wire.assemble import AssembleRequest

PARTS = {1: b"a bale", 2: os.urandom(100_000)}
WANTED = AssembleRequest((ByteRange(1, 0, 6), ByteRange(2, 5, 50_000), ByteRange(1, 2, 3)), (HashType.MD5,))
WHOLE = PARTS[1] + PARTS[2][5:50_005] + PARTS[1][2:5]
CALLS = ("copy_file_range", "fsync", "fdatasync", "link", "rename", "unlink")
"""The first window is when the temporary file exists, and nothing is copied."""


def run_killed(devices: Devices, target: str, window: int) -> str:
    """Assemble the file in a process that is killed in the given window; return the last call, empty if it finished."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        with _exiting(), _killed(window, writer):
            made = FileAssembly(devices, target, WANTED)
            while made.step():
                pass
    os.close(writer)
    with open(reader, "rb") as calls:
        told = calls.read().decode().split()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return ""
    return told[-1]


@contextlib.contextmanager
def _exiting() -> Iterator[None]:
    """Leave the process without any cleanup."""
    try:
        yield
    except BaseException:
        os._exit(1)
    os._exit(0)


@contextlib.contextmanager
def _killed(window: int, writer: int) -> Iterator[None]:
    left = window

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            os.write(writer, f"before-{name} ".encode())
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            result = call(*args, **kwargs)
            os.write(writer, f"after-{name} ".encode())
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return result

        return count

    for name in CALLS:
        setattr(os, name, wrapped(name, getattr(os, name)))
    yield


def files(root: Path) -> set[str]:
    """Every file below `root` that is not the node's own."""
    found = (each for each in root.rglob("*") if each.is_file() and RECORDS not in each.parts)
    return {str(each.relative_to(root)) for each in found if each.name != IDENTITY}


@pytest.mark.parametrize("unnamed", [True, False], ids=["unnamed", "temporary name"])
def test_killed_at_each_call(tmp_path: Path, unnamed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any kill the target is absent or whole, a sweep leaves no other byte, and the next attempt succeeds."""
    monkeypatch.setattr(incoming, "SYNC_EVERY", 20_000)
    (tmp_path / "dev1").mkdir()
    devices = Devices(tmp_path, unnamed_files=unnamed)
    for fid, body in PARTS.items():
        with devices.receive(fids.path(1, fid)) as coming:
            coming.write(body)
            coming.commit()
    before = files(tmp_path)
    seen: list[str] = []
    for window in range(200):
        target = fids.path(1, 100 + window)
        last = run_killed(devices, target, window)
        seen.append(last)
        devices.sweep()
        after = files(tmp_path)
        assert after - before <= {target[1:]}, last
        named = target[1:] in after
        assert not named or (tmp_path / target[1:]).read_bytes() == WHOLE, last
        if not last:
            assert named
            break
        again = FileAssembly(devices, target, WANTED)
        while again.step():
            pass
        assert (tmp_path / target[1:]).read_bytes() == WHOLE
        (tmp_path / target[1:]).unlink()
    else:
        pytest.fail("the file was never complete")
    assert {"before-copy_file_range", "after-copy_file_range", "after-fsync", "after-link"} <= set(seen)
