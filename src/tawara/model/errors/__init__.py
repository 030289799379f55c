"""The error hierarchy: each class maps once to a tracker code, an HTTP status and an exit code.

All errors except those of storage nodes (`model.node_errors`) and of packaged machines (`vm.errors`) are imported from
here. A class's code, message and hint are attributes, not docstrings, so that they survive `python -OO`.
"""

from __future__ import annotations

from tawara.model.errors.access import *
from tawara.model.errors.conflicts import *
from tawara.model.errors.corruption import *
from tawara.model.errors.dav import *
from tawara.model.errors.families import *
from tawara.model.errors.missing import *
from tawara.model.errors.requests import *
from tawara.model.errors.unavailable import *

BY_CODE: dict[str, type[TawaraError]] = {TawaraError.code: TawaraError}
"""Tracker code -> class, with which a client turns a reply back into the error."""


def _index(family: type[TawaraError]) -> None:
    for each in family.__subclasses__():
        BY_CODE.setdefault(each.code, each)
        _index(each)


_index(TawaraError)
