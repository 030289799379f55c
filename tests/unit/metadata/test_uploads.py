"""Closing uploads: statements that must not be run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tawara.metadata import uploads


async def test_nothing_to_close_runs_no_statement() -> None:
    """Without a file to store no statement is run: an empty list is a syntax error on most servers."""

    async def run(*statement: Any) -> None:
        pytest.fail(f"run: {statement}")

    await uploads._replace(cast("Any", SimpleNamespace(run=run, run_many=run, rows=run)), [], [])
