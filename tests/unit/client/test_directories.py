"""Directories over the flat key space."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from tawara.client.directories import KeyLister, list_directory
from tawara.client.replies import key_bytes, key_text


class Keys:
    """A client of a domain with these keys; counts the pages that it is asked for."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(set(map(key_bytes, keys)))
        self.pages = self.read = 0

    async def list_keys(self, _: str, prefix: str, *, after: str, page: int) -> AsyncIterator[str]:
        left = [key for key in self.keys if key.startswith(key_bytes(prefix)) and key > key_bytes(after)]
        for number, key in enumerate(left):
            self.pages += number % page == 0
            self.read += 1
            yield key_text(key)


NAMES = st.lists(st.text("ab/\uffff\U0001f600\udcff", min_size=1, max_size=6), max_size=60)


@given(NAMES, st.sampled_from(["", "a/", "b/a/", "\U0001f600/"]))
def test_the_members_are_those_of_the_keys(keys: list[str], prefix: str) -> None:
    """Files and directories are those that the keys below the prefix have, each once, in byte order."""
    found = asyncio.run(list_directory(cast(KeyLister, Keys(keys)), "d", prefix))
    below = [key[len(prefix) :] for key in set(keys) if key_bytes(key).startswith(key_bytes(prefix))]
    assert found.files == sorted((prefix + name for name in below if name and "/" not in name), key=key_bytes)
    directories = {prefix + name.partition("/")[0] + "/" for name in below if "/" in name}
    assert found.directories == sorted(directories, key=key_bytes)
    assert found.exists is bool(below)


async def test_large_directories_are_skipped() -> None:
    """Of a member that is a directory one key is read, however many it has; files are read in large pages."""
    keys = Keys([f"{directory}/{number:05}" for directory in "abc" for number in range(5000)])
    found = await list_directory(cast(KeyLister, keys), "d", "")
    assert (found.directories, keys.read) == (["a/", "b/", "c/"], 3)
    keys = Keys([f"{number:05}" for number in range(2000)])
    assert len((await list_directory(cast(KeyLister, keys), "d", "")).files) == 2000
    assert keys.pages <= 4
