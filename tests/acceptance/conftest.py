"""The event loops of the acceptance tests, and the servers and the store that they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from tests.contract.servers import Server, running_servers

if TYPE_CHECKING:
    from tests.acceptance.s3_fixture import S3Fixture


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
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Fixture]:
    """One store with the S3 listener for all tests that need no store of their own."""
    from tests.acceptance.s3_fixture import s3_fixture

    with s3_fixture(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(params=["http", "https"])
def s3_client(s3: S3Fixture, request: pytest.FixtureRequest) -> Any:
    """A boto3 client at its defaults, by http and behind TLS."""
    return s3.client(request.param)


@pytest.fixture
def s3_bucket(s3: S3Fixture, request: pytest.FixtureRequest) -> str:
    """A new bucket."""
    return s3.bucket(f"b{abs(hash(request.node.nodeid)):x}")


@pytest.fixture(scope="session")
def database_servers() -> Iterator[Callable[[str], Server]]:
    """A server of each kind, `postgresql` or `mysql`, started when first needed."""
    with running_servers() as get:
        yield get
