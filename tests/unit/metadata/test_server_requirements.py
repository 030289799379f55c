"""What is demanded of a MariaDB or MySQL server, asked of a connection that replies from a dictionary."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog.testing

from tawara.metadata import creation, mysql_opening
from tawara.metadata.mysql_opening import _examine
from tawara.metadata.server import ServerLimits, TransactionConflict
from tawara.model.errors import ConfigurationError, Db

PACE = ServerLimits(tries=2)


class _Link:
    """Replies to statements by a word in them."""

    def __init__(self, version: str = "10.11.4-MariaDB", *, flush: int = 1, sync: int = 1, log_bin: int = 1) -> None:
        self.replies: dict[str, tuple[Any, ...] | None] = {
            "VERSION()": (version, flush, sync, log_bin),
            "data_type": ("varbinary",),
            "seq_in_index": ("dkey_index",),
            "wsrep_on": None,
        }

    async def row(self, statement: str) -> tuple[Any, ...] | None:
        return next(reply for word, reply in self.replies.items() if word in statement)


@pytest.fixture(autouse=True)
def ensured(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Errors of creating the tables, in turn; afterwards it succeeds."""
    failures: list[Exception] = []

    async def ensure(*_: Any, **__: Any) -> None:
        if failures:
            raise failures.pop(0)

    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr(creation, "ensure", ensure)
    monkeypatch.setattr(mysql_opening, "asyncio", SimpleNamespace(sleep=sleep))
    return failures


async def _dialect(link: _Link) -> Any:
    return await _examine(cast("Any", link), PACE, False, "utf8mb4")


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("10.6.0-MariaDB", True), ("10.5.9-MariaDB", False), ("11.4.2-MariaDB-log", True), ("8.0.11", True),
     ("8.4.0-commercial", True), ("5.7.44", False)],
)  # fmt: skip
async def test_servers_that_are_too_old(version: str, accepted: bool) -> None:
    """MariaDB from 10.6 and MySQL from 8.0 are accepted; an older server is refused by its version."""
    if accepted:
        await _dialect(_Link(version))
    else:
        with pytest.raises(ConfigurationError, match="is too old"):
            await _dialect(_Link(version))


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, []),
        ({"flush": 2}, ["innodb_flush_log_at_trx_commit"]),
        ({"sync": 0}, []),
        ({"sync": 0, "version": "8.0.30"}, ["sync_binlog"]),
        ({"sync": 0, "version": "8.0.30", "log_bin": 0}, []),
        ({"flush": 0, "sync": 5, "version": "8.0.30"}, ["innodb_flush_log_at_trx_commit", "sync_binlog"]),
    ],
)
async def test_settings_that_are_not_durable(options: dict[str, Any], warned: list[str]) -> None:
    """A server that may lose commits at a power failure is named; the binary log counts with MySQL only."""
    with structlog.testing.capture_logs() as logs:
        await _dialect(_Link(**options))
    assert [each["setting"] for each in logs] == warned


async def test_the_dialect_matches_the_keys() -> None:
    """Binary keys have a dialect of their own; MogileFS's text keys are found by their index, if there is one."""
    assert type(await _dialect(_Link())).__name__ == "MysqlDialect"
    link = _Link()
    for row, index in ((("dkey_index",), "dkey_index"), (None, None)):
        link.replies |= {"data_type": ("varchar",), "seq_in_index": row}
        dialect = await _dialect(link)
        assert type(dialect).__name__ == "LegacyMysqlDialect"
        assert dialect.by_key == (f" FORCE INDEX ({index})" if index else "")


@pytest.mark.parametrize(("row", "local"), [(None, False), (("wsrep_on", "OFF"), False), (("wsrep_on", b"on"), True)])
async def test_locks_of_a_cluster_are_local(row: tuple[Any, ...] | None, local: bool) -> None:
    """In a Galera cluster a lock holds on its server only."""
    link = _Link()
    link.replies["wsrep_on"] = row
    assert (await _dialect(link)).locks_are_local is local


async def test_tables_that_others_create(ensured: list[Exception]) -> None:
    """Creating the tables is repeated when another server does the same, and given up after a few times."""
    ensured.append(TransactionConflict("twice"))
    await _dialect(_Link())
    ensured += [TransactionConflict("twice")] * 2
    with pytest.raises(Db, match="others were changing them"):
        await _dialect(_Link())
