"""Which texts are paths on a node."""

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
def test_what_is_no_path_is_refused(text: str) -> None:
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
def test_names_that_are_no_step_are_disregarded(text: str, same: str) -> None:
    """Empty names and `.` are left out of a path; nothing else is changed."""
    assert canonical(text) == same


@given(st.text("/.a", max_size=20).map("/".__add__))
def test_a_canonical_path_names_the_same_place(text: str) -> None:
    """Leaving out what is no step does not change what a path leads to, and is done once and for all."""
    steps = [step for step in text.split("/") if step not in ("", ".")]
    assert [step for step in canonical(text).split("/") if step] == steps
    assert canonical(canonical(text)) == canonical(text)


@given(st.integers(0, 10**9), st.integers(0, 10**20 - 1))
def test_every_fid_has_a_path_that_a_node_accepts(devid: int, number: int) -> None:
    """Whatever path trackers make for a fid is a path here."""
    text = fid.path(devid, number)
    assert parse_file(text) == DevicePath(f"dev{devid}", tuple(text.split("/")[2:]))


@given(st.one_of(st.text(), st.from_regex(r"/dev[0-9]{1,3}(/[\w.~%/-]{0,8}){0,4}", fullmatch=True)))
def test_accepted_paths_stay_below_their_device(text: str) -> None:
    """A path that is accepted has plain names only, and says exactly what the text says."""
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
    """A device or a directory is not a file's path."""
    with pytest.raises(InvalidPath):
        parse_file(text)
