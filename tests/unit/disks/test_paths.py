"""Paths on a storage node: which are valid."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.disks.paths import DevicePath, canonical, parse, parse_file
from tawara.model import fid
from tawara.model.limits import NODE_PATH_BYTES
from tawara.model.node_errors import InvalidPath


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "dev1/x", "/dev1/../x", "/dev1/..", "/dev1/a..b", "/dev1/./x", "/dev1//x", "//dev1/x", "/dev/x",
        "/etc/passwd", "/dev1/%2e%2e/x", "/dev1/a%2fb", "/dev1/a%00b", "/dev1/a\0b", "/dev1/a b", "/dev1/a\nb",
        "/dev1/x\n", "/dev1/é", "/dev１/x", "/dev1/~incoming/x", "/dev1/" + "a" * 256, "/dev1" + "/a" * 600, "/dev1\\x",
    ],
)  # fmt: skip
def test_invalid_paths_are_refused(text: str) -> None:
    """Dots, escapes, NULs, foreign letters, empty and overlong names are refused as a whole."""
    with pytest.raises(InvalidPath):
        parse(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("//dev1/usage", "/dev1/usage"), ("/dev1//usage", "/dev1/usage"), ("/dev1/./usage", "/dev1/usage"),
        ("/./dev1/.//./usage", "/dev1/usage"), ("/dev1/x/.", "/dev1/x/"), ("/dev1/.x", "/dev1/.x"),
        ("/dev1/x.", "/dev1/x."), ("/dev1/../x", "/dev1/../x"), ("/dev1/.../x", "/dev1/.../x"), ("//", "/"),
    ],
)  # fmt: skip
def test_empty_and_dot_names_are_dropped(text: str, same: str) -> None:
    """Empty names and `.` are removed from a path; nothing else is changed."""
    assert canonical(text) == same


@given(st.text("/.a", max_size=20).map("/".__add__))
def test_a_canonical_path_names_the_same_place(text: str) -> None:
    """Removing empty steps does not change the place of a path, and is idempotent."""
    steps = [step for step in text.split("/") if step not in ("", ".")]
    assert [step for step in canonical(text).split("/") if step] == steps
    assert canonical(canonical(text)) == canonical(text)


@given(st.integers(0, 10**9), st.integers(0, 10**20 - 1))
def test_every_fid_has_a_path_that_a_node_accepts(devid: int, number: int) -> None:
    """Every path that a tracker makes for a fid is valid."""
    text = fid.path(devid, number)
    assert parse_file(text) == DevicePath(f"dev{devid}", tuple(text.split("/")[2:]))


@given(st.one_of(st.text(), st.from_regex(r"/dev[0-9]{1,3}(/[\w.~%/-]{0,8}){0,4}", fullmatch=True)))
def test_accepted_paths_stay_below_their_device(text: str) -> None:
    """A valid path has plain names only, and is exactly the text."""
    try:
        path = parse(text)
    except InvalidPath:
        return
    assert re.fullmatch(r"dev[0-9]{1,10}", path.device)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", name) and name not in {".", ".."} for name in path.names)
    assert "/" + "/".join([path.device, *path.names]) == text.removesuffix("/")
    assert len(text) <= NODE_PATH_BYTES


@pytest.mark.parametrize("text", ["/dev1", "/dev1/", "/dev1/x/"])
def test_a_file_needs_a_name(text: str) -> None:
    """The path of a device or a directory is not a file's path."""
    with pytest.raises(InvalidPath):
        parse_file(text)
