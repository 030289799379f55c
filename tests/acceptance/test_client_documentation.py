"""The examples of the documentation of the client and its plugins, executed on a real store."""

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


@pytest.mark.parametrize(("page", "examples"), [("client.md", 20), ("plugins.md", 9)])
def test_the_pages(page: str, examples: int) -> None:
    """Every example of the pages about the client and its plugins has the shown result."""
    path = Path(__file__).parents[2] / "docs" / page
    outcome = doctest.testfile(str(path), module_relative=False)
    assert outcome.attempted > examples
    assert outcome.failed == 0


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_the_examples_of_the_classes(client: type[Client] | type[AsyncClient]) -> None:
    """Every example in a docstring has the shown result."""
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for found in finder.find(client, globs={}):
        runner.run(found)
    assert runner.tries > 0
    assert runner.failures == 0
