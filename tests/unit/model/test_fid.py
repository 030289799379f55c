"""Paths of fids."""

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.fid import parse_path, path


def test_paths_are_mogilefs() -> None:
    """Short and long fids have MogileFS's paths."""
    assert path(1, 1) == "/dev1/0/000/000/0000000001.fid"
    assert path(12, 1234567890) == "/dev12/1/234/567/1234567890.fid"
    assert path(3, 12345678901) == "/dev3/1/234/567/12345678901.fid"


@given(st.integers(1, 10**6), st.integers(0, 10**15))
def test_a_path_round_trips(devid: int, fid: int) -> None:
    """A path parses to its device and fid."""
    assert parse_path(path(devid, fid)) == (devid, fid)


@given(st.text())
def test_other_texts_are_no_paths(text: str) -> None:
    """Exactly the generated paths can be parsed."""
    parsed = parse_path(text)
    assert parsed is None or path(*parsed) == text


def test_invalid_paths() -> None:
    """A fid in the wrong directory, or one that no database can assign, is not accepted."""
    assert parse_path(path(1, 2**63)) is None
    assert parse_path("/dev1/0/000/001/0000000001.fid") is None
    assert parse_path("/dev1/0/000/000/0000000001.fid/..") is None
