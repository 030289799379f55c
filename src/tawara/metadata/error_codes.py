"""Maps the error codes of database servers to remedies: retry, reconnect, or report to the caller.

An unknown code is reported, and its connection is closed (`pool`): replacing a connection in an unknown state is
cheaper than keeping it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Remedy(Enum):
    """The reaction to an error."""

    RETRY = "retry"
    """The operation may succeed later, on the same connection."""
    RECONNECT = "reconnect"
    """The connection is unusable: closed, read-only, or without its session settings. A new one may work."""
    LIMIT = "limit"
    """The server allows no further connection."""
    COLLISION = "collision"
    """A unique key is violated."""
    BAD_VALUE = "bad value"
    """The database cannot store such a key."""
    EXHAUSTED = "exhausted"
    """A counter is exhausted."""
    CALLER = "caller"
    """No known remedy: the error is reported to the caller."""


_POSTGRES: Final = {
    "40001": Remedy.RETRY,  # serialization failure
    "40P01": Remedy.RETRY,  # deadlock detected
    "55P03": Remedy.RETRY,  # lock not available
    "72000": Remedy.RETRY,  # snapshot too old
    "23505": Remedy.COLLISION,
    "2200H": Remedy.EXHAUSTED,  # sequence generator limit exceeded
    "22001": Remedy.BAD_VALUE,  # string data right truncation
    "22021": Remedy.BAD_VALUE,  # character not in repertoire
    "22P05": Remedy.BAD_VALUE,  # untranslatable character
    "53300": Remedy.LIMIT,  # too many connections, in all or for the role
    "24000": Remedy.RECONNECT,  # invalid cursor state
    "26000": Remedy.RECONNECT,  # a prepared statement is gone, as behind a proxy that changed the server process
    "34000": Remedy.RECONNECT,  # likewise a cursor is gone
    "40003": Remedy.RECONNECT,  # statement completion unknown
    "42P05": Remedy.RECONNECT,  # another client's prepared statement has the name
    "57P01": Remedy.RECONNECT,  # admin shutdown, or pg_terminate_backend
    "57P02": Remedy.RECONNECT,  # crash shutdown
    "57P03": Remedy.RECONNECT,  # cannot connect now: starting up, shutting down
    "57P04": Remedy.RECONNECT,  # database dropped
    "57P05": Remedy.RECONNECT,  # idle session timeout
}
_POSTGRES_CLASSES: Final = {
    "08": Remedy.RECONNECT,  # connection exception
    "25": Remedy.RECONNECT,  # invalid transaction state; 25006, read-only, may be permanent for a session
}

_MYSQL: Final = {
    Remedy.RETRY: {
        1020,  # record has changed since last read
        1205,  # lock wait timeout
        1213,  # deadlock
        1412,  # table definition has changed
        1614,  # XA deadlock
        1637,  # too many active transactions
    },
    Remedy.COLLISION: {1062},
    Remedy.EXHAUSTED: {167, 1467},  # out of range for an AUTO_INCREMENT; it cannot be read
    Remedy.BAD_VALUE: {1267, 1300, 1366, 1406, 3854, 3988},
    Remedy.LIMIT: {
        1040,  # too many connections
        1203,  # max_user_connections
        1226,  # a user's resource limit
    },
    Remedy.RECONNECT: {
        1046,  # no database selected: it was dropped and created again
        1047,  # unknown command: a node of Galera that is not ready
        1053,  # server shutdown in progress
        *(1077, 1080),  # normal shutdown, forced close
        *(
            1152,
            1156,
            1157,
            1158,
            1159,
            1160,
            1161,
            1184,
        ),  # aborted, or packets out of order
        1243,  # unknown prepared statement
        1290,  # --read-only: it has become a replica
        1317,  # query execution was interrupted
        1615,  # a prepared statement needs to be prepared again
        1792,  # the session's transactions are read-only
        1836,  # read-only mode
        1927,  # connection was killed
        *(2002, 2003, 2006, 2013, 2055),  # the client's: cannot connect, gone away, lost
        *(3169, 4031),  # session was killed; disconnected for inactivity
    },
}
_MYSQL_REMEDIES: Final = {number: remedy for remedy, numbers in _MYSQL.items() for number in numbers}


def of_sqlstate(code: str) -> Remedy:
    """Return the remedy for an error of PostgreSQL with this SQLSTATE."""
    return _POSTGRES.get(code) or _POSTGRES_CLASSES.get(code[:2], Remedy.CALLER)


def of_mysql(number: int) -> Remedy:
    """Return the remedy for an error of MariaDB or MySQL with this number."""
    return _MYSQL_REMEDIES.get(number, Remedy.CALLER)
