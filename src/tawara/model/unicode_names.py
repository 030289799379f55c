"""Unicode's normalisation forms of names: a client may write a name in another form than the one who stored it."""

from __future__ import annotations

from unicodedata import normalize


def forms(name: bytes) -> tuple[bytes, ...]:
    """Return a name in the form that is given, composed (NFC) and decomposed (NFD), each once.

    A name that is not UTF-8 has only the given form.
    """
    if name.isascii():
        return (name,)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return (name,)
    return tuple(dict.fromkeys((name, normalize("NFC", text).encode(), normalize("NFD", text).encode())))
