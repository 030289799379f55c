"""Checks that requests to this storage node are signed, where that is required."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from tawara.model.errors import DeniedError
from tawara.wire.installation_key import InstallationKey
from tawara.wire.signatures import NodeRight, find_problem, right_for, signature_in, signing_key

_USAGE: Final = re.compile(r"/dev\d+/usage", re.ASCII)


class BadSignature(DeniedError):
    """The request needs a signature that it does not have."""

    code = "bad_signature"
    message = "The request is not signed by a tracker or gateway of this store"
    hint = "Set store.sign_urls in the processes that use this node; clients get signed URLs from a tracker."
    http = 403


class SignatureCheck:
    """Requires signatures, of requests that change something or of all. The usage files stay readable by monitors."""

    def __init__(
        self, keys: Callable[[], Sequence[InstallationKey]], *, reads: bool, wall: Callable[[], float]
    ) -> None:
        """`reads`: whether GET and HEAD need a signature, too; `wall`: this machine's time."""
        self._keys, self._reads, self._wall = keys, reads, wall

    def check(self, method: str, path: str, *, field: str | None, query: str, replace: bool) -> None:
        """Raise BadSignature unless a request for the canonical `path` needs no signature or has a valid one.

        `field`: the value of Tawara-Signature; `query`: that of the URL; `replace`: see plain_request.REPLACE.
        """
        right = right_for(method, replace=replace)
        if right is None or (right is NodeRight.READ and (not self._reads or _USAGE.fullmatch(path))):
            return
        keys = [signing_key(each) for each in self._keys()]
        signature = field if field is not None else signature_in(query)
        problem = find_problem(keys, signature, right, path, self._wall())
        if problem is not None:
            raise BadSignature(problem)
