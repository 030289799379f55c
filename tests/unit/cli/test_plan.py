"""Planning of transfers: which file is stored under which key, and fetched to which path."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tawara.cli import STREAM
from tawara.cli.plan import (
    FoundFile,
    PlannedUpload,
    UnsafeKey,
    copies,
    is_fetched,
    is_stored,
    relative_path,
    uploads,
)
from tawara.client.replies import FileInfo
from tawara.model import errors
from tawara.model.cluster import Checksum, HashType

PART = st.text(st.characters(codec="utf-8"), max_size=4) | st.sampled_from(["", ".", "..", "...", "a", "\0"])
KEY = st.lists(PART, min_size=1, max_size=6).map("/".join)


@given(KEY, KEY)
@example("../../etc/passwd", "")
@example("/etc/passwd", "")
@example("a/../../b", "a/")
@example("a/b", "a/b")
def test_no_key_escapes(key: str, prefix: str) -> None:
    """For any key and prefix, the target is strictly below the directory, or the key is refused."""
    try:
        path = relative_path(key, prefix)
    except UnsafeKey:
        return
    joined = posixpath.join("/root/directory", str(path))
    assert posixpath.normpath(joined) == joined
    assert joined.startswith("/root/directory/")
    assert "\0" not in joined


@given(st.lists(st.text("ab.c ", min_size=1, max_size=5).filter(lambda part: part not in (".", "..")), min_size=1))
def test_plain_keys_keep_their_path(parts: list[str]) -> None:
    """A plain key becomes the same path, without the directories of the prefix."""
    key = "/".join(parts)
    assert str(relative_path(key, "")) == key
    assert str(relative_path(f"x/y/{key}", "x/y/")) == key
    assert str(relative_path(f"x/y/{key}", "x/y")) == f"y/{key}"


@given(st.lists(KEY, min_size=1, max_size=6, unique=True), st.sampled_from(["", "/"]))
def test_two_keys_never_share_a_path(keys: list[str], end: str) -> None:
    """Different keys below one prefix go to different paths."""
    paths = []
    for key in keys:
        try:
            paths.append(relative_path(f"p{end}{key}", f"p{end}"))
        except UnsafeKey:
            continue
    assert len(set(paths)) == len(paths)


def _found(argument: str, relative: str | None = None) -> FoundFile:
    path = argument if relative is None else f"{argument.rstrip('/')}/{relative}"
    return FoundFile(argument, path, relative, 1, 1)


@pytest.mark.parametrize(
    ("argument", "relative", "target", "key"),
    [
        ("dir/cat.jpg", None, "", "cat.jpg"),
        ("dir/cat.jpg", None, "p/", "p/cat.jpg"),
        ("dir/cat.jpg", None, "p/dog.jpg", "p/dog.jpg"),
        (STREAM, None, "p/x", "p/x"),
        ("a/site", "x/y", "p/", "p/site/x/y"),
        ("a/site/", "x/y", "p/", "p/x/y"),
        ("a/site", "x/y", "p", "p/x/y"),
        (".", "x", "", "x"),
        ("..", "x", "p/", "p/x"),
        ("/", "x", "p/", "p/x"),
    ],
)
def test_the_target_of_a_file(argument: str, relative: str | None, target: str, key: str) -> None:
    """The key is the target, or the prefix with the name; a directory keeps its name unless written with `/`."""
    assert [each.key for each in uploads([_found(argument, relative)], target, single=True)] == [key]


@pytest.mark.parametrize(
    ("found", "target", "text"),
    [
        ([_found("a"), _found("b")], "key", "need a prefix"),
        ([_found("x/a"), _found("y/a")], "p/", "would both be"),
        ([_found(STREAM)], "p/", "needs a key"),
        ([_found("a")], "k" * 1023 + "/", "longer than"),
    ],
)
def test_invalid_plans_are_refused(found: list[FoundFile], target: str, text: str) -> None:
    """Files that would overwrite each other, or have no name or too long a one, are refused before any transfer."""
    with pytest.raises(errors.UsageError, match=text):
        uploads(found, target, single=len(found) == 1)


def _info(*, stored_at: int | None = 100, checksum: Checksum | None = None, mtime_ns: int | None = None) -> FileInfo:
    return FileInfo("d", "k", 1, 5, "default", 1, checksum, (), stored_at, mtime_ns)


MD5 = Checksum(HashType.MD5, b"x" * 16)
OTHER = Checksum(HashType.MD5, b"y" * 16)


@pytest.mark.parametrize(
    ("size", "mtime_ns", "info", "by_checksum", "equal"),
    [
        (5, 7, _info(mtime_ns=7), False, True),
        (5, 8, _info(mtime_ns=7), False, False),
        (5, 6, _info(mtime_ns=7), False, False),
        (4, 7, _info(mtime_ns=7), False, False),
        (5, 100 * 10**9, _info(), False, True),
        (5, 99 * 10**9, _info(), False, False),
        (5, 7, _info(stored_at=None), False, False),
        (5, 7, _info(mtime_ns=7), True, False),
        (5, 7, _info(mtime_ns=7, checksum=MD5), True, None),
        (5, 6, _info(mtime_ns=7, checksum=MD5), False, None),
        (4, 7, _info(mtime_ns=7, checksum=MD5), True, False),
    ],
)
def test_unchanged_files_are_not_stored_again(
    size: int, mtime_ns: int, info: FileInfo, by_checksum: bool, equal: bool | None
) -> None:
    """A file is skipped if its size and time are those stored; otherwise its checksum decides, if there is one."""
    assert is_stored(PlannedUpload("f", "k", size, mtime_ns), info, by_checksum=by_checksum) is equal


def test_unchanged_files_are_not_fetched_again() -> None:
    """A fetched file gets its storage time and fid; a different one, or another size or checksum, causes a new
    fetch."""
    assert is_fetched(5, 100 * 10**9 + 1000, _info(), None)
    assert is_fetched(5, 100 * 10**9, _info(), None)  # the file system keeps whole seconds
    assert not is_fetched(5, 100 * 10**9 + 2000, _info(), None)  # what another fid of the same second had
    assert not is_fetched(5, 101 * 10**9, _info(), None)
    assert not is_fetched(4, 100 * 10**9, _info(), None)
    assert not is_fetched(5, 100 * 10**9, _info(stored_at=None), None)
    assert is_fetched(5, 1, _info(checksum=MD5), MD5)
    assert not is_fetched(5, 100 * 10**9, _info(checksum=MD5), OTHER)


CAT = ("photos", "pets/cat.jpg", "cat.jpg")


@pytest.mark.parametrize(
    ("found", "target", "single", "keys"),
    [
        ([CAT], "", True, ["cat.jpg"]),
        ([CAT], "animals/", True, ["animals/cat.jpg"]),
        ([CAT], "felis.jpg", True, ["felis.jpg"]),
        ([CAT, ("other", "dog.jpg", "dog.jpg")], "animals", False, ["animals/cat.jpg", "animals/dog.jpg"]),
        ([("photos", "pets/cat.jpg", "pets/cat.jpg")], "old", False, ["old/pets/cat.jpg"]),
        ([("photos", "pets/", "")], "new", True, ["new"]),
    ],
)
def test_where_copies_go(found: list[tuple[str, str, str]], target: str, single: bool, keys: list[str]) -> None:
    """A prefix keeps the names; one file can be given any key."""
    assert [each.new_key for each in copies(found, "photos", target, single=single)] == keys


@pytest.mark.parametrize(
    ("found", "target", "text"),
    [
        ([CAT], "pets/", "onto itself"),
        ([CAT], "pets/cat.jpg", "onto itself"),
        ([CAT, ("other", "cat.jpg", "cat.jpg")], "new/", "would both be 'new/cat.jpg'"),
        ([("photos", "pets/", "")], "new/", "has no name"),
        ([CAT], "x" * 1020 + "/", "longer than 1024 bytes"),
    ],
)
def test_copies_that_cannot_be(found: list[tuple[str, str, str]], target: str, text: str) -> None:
    """A copy onto its source, two copies with one key, and invalid keys are refused before anything is copied."""
    with pytest.raises(errors.UsageError, match=text):
        copies(found, "photos", target, single=len(found) == 1)
