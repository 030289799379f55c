"""Unicode's normalisation forms of names."""

from __future__ import annotations

from unicodedata import normalize

from hypothesis import given
from hypothesis import strategies as st

from tawara.model.unicode_names import forms


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_every_form_leads_to_the_others(text: str) -> None:
    """The forms of a name have the name itself first, each once, and include both normalised ones."""
    found = forms(text.encode())
    assert found[0] == text.encode()
    assert len(found) == len(set(found)) <= 3
    assert {normalize("NFC", text).encode(), normalize("NFD", text).encode()} <= set(found)


def test_forms_of_a_name_with_an_accent() -> None:
    """A composed name is found decomposed, as macOS writes it."""
    assert forms("ü".encode()) == ("ü".encode(), "u\u0308".encode())
    assert forms(b"plain") == (b"plain",)
    assert forms(b"\xff") == (b"\xff",)
