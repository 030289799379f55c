"""The reaction to each error code of a database server, and whether its connection is kept."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import asyncpg
import pytest
from asyncmy import errors as my
from asyncpg import exceptions as pg
from hypothesis import given
from hypothesis import strategies as st

from tawara.metadata import mysql, postgres
from tawara.metadata.contract import Transaction
from tawara.metadata.error_codes import Remedy, of_mysql, of_sqlstate
from tawara.metadata.pool import ConnectionLost, LimitMet
from tawara.metadata.server import ServerMetadata, TransactionConflict, UniqueViolation, outcome
from tawara.model.errors import Db, FidsExhausted, InvalidKey, TawaraError
from tests.unit.metadata.test_server import PACE, FakeServer

RETRIED = {"40001", "40P01", "55P03", "72000"}
RECONNECTED = {
    *("08000", "08001", "08003", "08004", "08006", "08007", "08P01"),
    *("25000", "25001", "25006", "25P01", "25P02", "25P03", "25P04"),
    *("24000", "26000", "34000", "40003", "42P05"),
    *("57P01", "57P02", "57P03", "57P04", "57P05"),
}
CALLERS = {"23502", "23503", "42501", "42601", "42703", "42P01", "53100", "53200", "57014", "58030", "XX000", "XX001"}


def test_sqlstates() -> None:
    """Each SQLSTATE that can occur is retried, leads to another connection, or is raised, as listed here."""
    assert {code for code in RETRIED if of_sqlstate(code) is not Remedy.RETRY} == set()
    assert {code for code in RECONNECTED if of_sqlstate(code) is not Remedy.RECONNECT} == set()
    assert {code for code in CALLERS if of_sqlstate(code) is not Remedy.CALLER} == set()
    assert of_sqlstate("53300") is Remedy.LIMIT
    assert of_sqlstate("23505") is Remedy.COLLISION


DRIVERS: list[Any] = [
    each
    for name, each in sorted(vars(pg).items())
    if inspect.isclass(each)
    and issubclass(each, asyncpg.PostgresError)
    and isinstance(getattr(each, "sqlstate", 0), str)
]


@pytest.mark.parametrize("error", DRIVERS, ids=lambda each: each.__name__)
def test_every_error_of_the_driver_has_the_remedy_of_its_code(error: type[asyncpg.PostgresError]) -> None:
    """The SQLSTATE decides, not asyncpg's class, except for two codes about the client's own memory."""
    stale = {"OutdatedSchemaCacheError", "InvalidCachedStatementError"}
    expected = Remedy.RECONNECT if error.__name__ in stale else of_sqlstate(str(error.sqlstate))
    assert postgres.remedy_of(error("text")) is expected


@pytest.mark.parametrize(
    ("numbers", "remedy"),
    [
        ({1020, 1205, 1213, 1412, 1614, 1637}, Remedy.RETRY),
        ({1046, 1047, 1053, 1243, 1290, 1317, 1615, 1792, 1836, 1927, 2006, 2013, 3169, 4031}, Remedy.RECONNECT),
        ({1040, 1203, 1226}, Remedy.LIMIT),
        ({1062}, Remedy.COLLISION),
        ({167, 1467}, Remedy.EXHAUSTED),
        ({1021, 1054, 1064, 1142, 1146, 1153, 1364, 1461, 1969, 3024}, Remedy.CALLER),
    ],
)
def test_error_numbers_of_mysql(numbers: set[int], remedy: Remedy) -> None:
    """Each error number that can occur is retried, leads to another connection, or is raised, as listed here."""
    assert {number for number in numbers if of_mysql(number) is not remedy} == set()
    assert {mysql.remedy_of(my.OperationalError(number, "text")) for number in numbers} == {remedy}


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), TimeoutError(), OSError("down")])
def test_errors_of_the_operating_system(error: Exception) -> None:
    """A system error of a connection leads to another one."""
    assert postgres.remedy_of(error) is mysql.remedy_of(error) is Remedy.RECONNECT
    assert postgres.remedy_of(asyncpg.InterfaceError("closed")) is Remedy.RECONNECT
    assert mysql.remedy_of(my.InterfaceError("(0, 'Not connected')")) is Remedy.RECONNECT


async def _change(tx: Transaction) -> int:
    return await tx.run("UPDATE t SET a = 1")


@given(
    st.one_of(
        st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=5, max_size=5).map(of_sqlstate),
        st.sampled_from([str(each.sqlstate) for each in DRIVERS]).map(of_sqlstate),
        st.integers(0, 6000).map(of_mysql),
        st.sampled_from(Remedy),
    )
)
def test_a_connection_is_reused_only_after_harmless_errors(remedy: Remedy) -> None:
    """After any error the next change succeeds, on another connection unless the error is known to be harmless."""

    async def try_it() -> None:
        error = outcome(remedy, "text")
        server = FakeServer(run=[error])
        metadata = ServerMetadata(server.connect, PACE)
        if isinstance(error, TransactionConflict | ConnectionLost | UniqueViolation):
            assert await metadata.write(_change) == 1
        else:
            with pytest.raises((Db, FidsExhausted, InvalidKey)):
                await metadata.write(_change)
        assert await metadata.write(_change) == 1
        harmless = isinstance(error, TransactionConflict | UniqueViolation | FidsExhausted | InvalidKey)
        assert server.steps.count("connect") == (1 if harmless else 2)
        assert server.steps.count("terminate") == (0 if harmless else 1)
        await metadata.close()

    asyncio.run(try_it())


def test_each_remedy_has_its_exception() -> None:
    """The exception type tells the pool and the caller what to do."""
    assert {type(outcome(each, "text")) for each in Remedy} == {
        *(TransactionConflict, ConnectionLost, LimitMet, UniqueViolation, InvalidKey, FidsExhausted, Db)
    }
    assert not issubclass(FidsExhausted, Db)
    assert issubclass(InvalidKey, TawaraError)
