"""The error hierarchy: one mapping for each surface, without gaps or collisions."""

import re

import pytest

from tawara.model import errors
from tawara.model.errors import BY_CODE, Exit, TawaraError


@pytest.mark.parametrize("error", BY_CODE.values(), ids=BY_CODE)
def test_every_error_says_something_on_every_surface(error: type[TawaraError]) -> None:
    """The code is one word, the text is never empty, the HTTP status is an error's, the exit code is not success."""
    assert re.fullmatch(r"\w+", error.code)
    assert error().wire_text
    assert error().message[0].isupper()
    assert 400 <= error.http < 600
    assert error.exit is not Exit.OK


def test_codes_are_those_of_the_protocol() -> None:
    """Class names give MogileFS's codes, and texts are MogileFS's where it has its own."""
    assert BY_CODE["unknown_key"] is errors.UnknownKey
    assert errors.UnknownKey().wire_text == "unknown_key"
    assert errors.NoneMatch().wire_text == "No keys match that pattern and after-value (if any)."
    assert errors.SizeMismatch("Expected: 1; actual: 2; path: p").wire_text == "Expected: 1; actual: 2; path: p"


def test_no_two_errors_share_a_code() -> None:
    """A client can turn a code back into the error; families aside, codes are unique."""
    leaves = [each for each in BY_CODE.values() if not each.__subclasses__()]
    assert len({each.code for each in leaves}) == len(leaves)
