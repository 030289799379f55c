"""Where fids lie."""

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.fid import parse_path, path


def test_paths_of_the_reference() -> None:
    """Short and long fids lie where MogileFS puts them."""
    assert path(1, 1) == "/dev1/0/000/000/0000000001.fid"
    assert path(12, 1234567890) == "/dev12/1/234/567/1234567890.fid"
    assert path(3, 12345678901) == "/dev3/1/234/567/12345678901.fid"


@given(st.integers(1, 10**6), st.integers(0, 10**15))
def test_path_reads_back(devid: int, fid: int) -> None:
    """A path tells its device and fid."""
    assert parse_path(path(devid, fid)) == (devid, fid)


@given(st.text())
def test_other_texts_are_no_paths(text: str) -> None:
    """What parses is exactly what is made."""
    parsed = parse_path(text)
    assert parsed is None or path(*parsed) == text


def test_near_misses() -> None:
    """A fid in the wrong directory, or one that no database could give out, is not accepted."""
    assert parse_path(path(1, 2**63)) is None
    assert parse_path("/dev1/0/000/001/0000000001.fid") is None
    assert parse_path("/dev1/0/000/000/0000000001.fid/..") is None
