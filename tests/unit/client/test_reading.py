"""Where the client reads a file."""

from __future__ import annotations

import pytest

from tawara.client.reading import Located
from tawara.client.replies import FileInfo
from tawara.model import fid as fids


@pytest.mark.parametrize(
    ("urls", "consistent"),
    [
        ([f"http://h1:7500{fids.path(1, 7)}", f"http://h2:7500{fids.path(2, 7)}"], True),
        ([f"http://h1:7500{fids.path(1, 7)}", f"http://h2:7500{fids.path(2, 8)}"], False),
        (["http://h1:7500/elsewhere"], True),
        ([], True),
    ],
)
def test_located_replicas_are_of_one_fid(urls: list[str], consistent: bool) -> None:
    """File information and replicas that name another fid are of different contents; other paths say nothing."""
    assert Located(FileInfo("d", "k", 7, 10, "", 2), urls).consistent() is consistent
