"""The examples of the client's documentation, executed on a real store."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from pathlib import Path

import pytest

from tawara.client import AsyncClient, Client
from tests.acceptance.cluster import DOMAIN, run


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store with the domain `files`, as `tawara up` creates it, which the examples find by TAWARA_TRACKERS."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with run(tmp_path, hosts=1) as started:
        monkeypatch.setenv("TAWARA_TRACKERS", started.trackers)
        with Client() as client:
            client.create_domain("files")
            for storage_class in ("one", "md5"):
                client.delete_class(DOMAIN, storage_class)
            client.delete_domain(DOMAIN)
        yield


def test_the_page_about_the_client() -> None:
    """Every example of docs/client.md has the shown result."""
    page = Path(__file__).parents[2] / "docs" / "client.md"
    outcome = doctest.testfile(str(page), module_relative=False)
    assert outcome.attempted > 20
    assert outcome.failed == 0


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_the_examples_of_the_classes(client: type[Client] | type[AsyncClient]) -> None:
    """Every example in a docstring has the shown result."""
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for found in finder.find(client, globs={}):
        runner.run(found)
    assert runner.tries > 0
    assert runner.failures == 0
