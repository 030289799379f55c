"""Checks that an event loop's thread makes no call that may wait for a disk."""

from __future__ import annotations

import builtins
import io
import os
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_WITH_PATHS = (
    "access", "chmod", "chown", "link", "listdir", "lstat", "mkdir", "open", "readlink", "remove", "rename", "replace",
    "rmdir", "scandir", "stat", "statvfs", "symlink", "truncate", "unlink", "utime",
)  # fmt: skip
_WITH_DESCRIPTORS = (
    "close", "copy_file_range", "fdatasync", "fstat", "fstatvfs", "fsync", "ftruncate", "posix_fadvise", "pread",
    "pwrite", "read", "sendfile", "write",
)  # fmt: skip


@contextmanager
def nothing_on_disks(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let every call on `root` or below fail on this thread; yields the list of such calls."""
    here = threading.get_ident()
    found: list[str] = []
    readlink = os.readlink
    below = str(root)
    looking = False

    def touches(what: object) -> bool:
        if isinstance(what, int) and not isinstance(what, bool):
            try:
                return readlink(f"/proc/self/fd/{what}").startswith(below)
            except OSError:
                return False
        return isinstance(what, str | bytes | os.PathLike) and os.fsdecode(what).startswith(below)

    def guarded(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal looking
            if threading.get_ident() == here and not looking:
                looking = True
                try:
                    bad = any(map(touches, (*args[:2], *kwargs.values())))
                    if bad:
                        stack = "".join(traceback.format_stack(limit=8)[:-1])
                        found.append(f"{name}{args!r}\n{stack}")
                finally:
                    looking = False
                if bad:
                    raise OSError(f"{name} on the event loop")
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in (*_WITH_PATHS, *_WITH_DESCRIPTORS):
            patch.setattr(os, name, guarded(name, getattr(os, name)))
        patch.setattr(builtins, "open", guarded("open", builtins.open))
        patch.setattr(io, "open", guarded("open", io.open))
        yield found
