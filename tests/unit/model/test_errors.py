"""The error hierarchy: each class states its code, message and hint, and maps once to every protocol."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import tawara
from tawara.model import errors
from tawara.model.errors import BY_CODE, Exit, TawaraError
from tawara.wire.line import RefusedRequest


def every_error(family: type[TawaraError] = TawaraError) -> Iterator[type[TawaraError]]:
    """The subclasses of `family` in all modules of the package."""
    for each in family.__subclasses__():
        yield each
        yield from every_error(each)


for module in pkgutil.walk_packages(tawara.__path__, "tawara."):
    if module.name != "tawara.__main__":
        importlib.import_module(module.name)
ERRORS = sorted(
    {each for each in every_error() if each.__module__.startswith("tawara.")}, key=lambda each: each.__qualname__
)
WIRE_TEXTS = "; ".join(
    (
        "import json",
        "from tawara.model.errors import BY_CODE",
        "from tawara.wire.line import refusal",
        "print(json.dumps({code: refusal(error()).decode() for code, error in BY_CODE.items()}))",
    )
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: each.__name__)
def test_every_error_states_its_code_message_and_hint(error: type[TawaraError]) -> None:
    """Each class states its own code, message and hint, an HTTP error status and an exit code of failure."""
    assert {"code", "message", "hint"} <= vars(error).keys()
    assert re.fullmatch(r"\w+", error.code)
    assert error.message[0].isupper()
    assert error.hint is None or (error.hint.strip() and error.hint != error.message)
    assert 400 <= error.http < 600
    assert error.exit is not Exit.OK


def test_the_reply_is_the_same_without_docstrings() -> None:
    """Under `python -OO` every error is sent to clients with the same code and text as without."""
    said = [
        json.loads(subprocess.run([sys.executable, *flags, "-c", WIRE_TEXTS], capture_output=True, check=True).stdout)
        for flags in ((), ("-OO",))
    ]
    assert said[0] == said[1]
    assert said[1]["unknown_host"] == "ERR unknown_host Host+not+found\r\n"
    assert said[1]["unknown_key"] == "ERR unknown_key unknown_key\r\n"


def test_codes_are_mogilefs() -> None:
    """Codes and texts are MogileFS's where it has its own."""
    assert BY_CODE["unknown_key"] is errors.UnknownKey
    assert errors.UnknownKey().wire_text == "unknown_key"
    assert errors.NoneMatch().wire_text == "No keys match that pattern and after-value (if any)."
    assert errors.SizeMismatch("Expected: 1; actual: 2; path: p").wire_text == "Expected: 1; actual: 2; path: p"


def test_the_general_code_is_the_general_error() -> None:
    """A client turns the general code `failure` into the general error, not into that of any family."""
    assert type(RefusedRequest("failure", "Operation failed").as_error()) is TawaraError


def test_no_two_errors_share_a_code() -> None:
    """A client can turn a code back into the error: apart from families, codes are unique."""
    leaves = [each for each in ERRORS if each.__module__.startswith("tawara.model.") and not each.__subclasses__()]
    assert len({each.code for each in leaves}) == len(leaves)
