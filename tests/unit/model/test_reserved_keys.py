"""Reserved keys: which are hidden, and those of parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.limits import KEY_BYTES
from tawara.model.reserved_keys import is_reserved, part_key, part_number, parts_prefix, upload_of

ids = st.text("0123456789abcdef", min_size=32, max_size=32)
numbers = st.integers(1, 10_000)


@given(ids, numbers, numbers)
def test_keys_of_parts(upload_id: str, one: int, two: int) -> None:
    """The key of a part is reserved, names its upload and number, and is sorted by number."""
    key = part_key(upload_id, one)
    assert is_reserved(key)
    assert key.startswith(parts_prefix(upload_id))
    assert (upload_of(key), part_number(key)) == (upload_id, one)
    assert (key < part_key(upload_id, two)) == (one < two)
    assert len(key) < KEY_BYTES


@given(st.text().filter(lambda text: not text.startswith("\U0010ffff")), ids)
def test_keys_of_users(text: str, upload_id: str) -> None:
    """No other key of valid UTF-8 is reserved, and all of them are sorted before the reserved ones."""
    key = text.encode("utf-8", "ignore")
    assert not is_reserved(key)
    assert key < part_key(upload_id, 1)
    assert not is_reserved(b"\xff" + key)
