"""The event loops of the acceptance tests, and their shared database servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest
import uvloop

from tests.contract.servers import Server, running_servers


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the line server on uvloop, as in production, and on the loop of the standard library."""
    if item.path.name == "test_tracker_line_server.py":
        return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
    if item.path.name.startswith("test_tracker_"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def database_servers() -> Iterator[Callable[[str], Server]]:
    """A server of each kind, `postgresql` or `mysql`, started when first needed."""
    with running_servers() as get:
        yield get
