"""A hanging disk: a file system that does not respond, mounted on a device."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MNT_DETACH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def hanging(place: Path) -> Iterator[None]:
    """Let all access to `place` and below hang; it fails at the end, and the disk is back. It is a FUSE mount whose
    server never reads a request, and needs root."""
    try:
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"no FUSE here: {error.strerror}")
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        if _LIBC.mount(b"hanging", os.fsencode(place), b"fuse", 0, options) != 0:
            pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
        try:
            yield
        finally:
            _LIBC.umount2(os.fsencode(place), _MNT_DETACH)
    finally:
        os.close(server)
