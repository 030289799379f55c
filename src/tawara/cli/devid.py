"""Command-line arguments that name a device: `dev3` or `3`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter, Token

from tawara.model.errors import UsageError


def _read(_type: object, tokens: Sequence[Token]) -> int:
    match = re.fullmatch(r"(?:dev)?([0-9]{1,9})", tokens[0].value)
    if match is None:
        raise UsageError(f"{tokens[0].value!r} is no device: write it as dev3, or 3")
    return int(match[1])


Devid = Annotated[int, Parameter(converter=_read, n_tokens=1)]
"""The type of such an argument."""
