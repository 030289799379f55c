"""Conversion of mogilefsd.conf."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tawara.model.errors import ConfigurationError
from tawara.model.mogilefsd_conf import database_url, move, parse

SAMPLE = """
# Enable daemon mode to work in background and use syslog
daemonize = 1
db_dsn = DBI:mysql:mogilefs:host=10.0.0.5
db_user = mogile
db_pass = s=#3 "x"
conf_port 7001
listen = 10.0.0.1:7001
listener_jobs = 10
mogstored_stream_port = 7601
min_free_space = 200
default_mindevcount = 3
repl_use_get_port = 0
"""


def test_a_complete_file() -> None:
    """Every key of a file becomes a setting, the database's URL, or a note."""
    moved = move(parse(SAMPLE))
    assert moved.database == "mysql://mogile@10.0.0.5/mogilefs"
    assert moved.password == 's=#3 "x"'
    assert moved.settings == {
        "tracker.listen": "10.0.0.1:7001",
        "store.min_free_mb": 200,
        "store.mindevcount": 3,
        "node.side_channel": "127.0.0.1:7601",
    }
    assert [key for key, _ in moved.notes] == ["daemonize", "listener_jobs"]
    assert "s=#3" not in repr(moved)


def test_an_empty_file() -> None:
    """Without keys the defaults are mogilefsd's."""
    moved = move(parse(""))
    assert moved.database == "mysql://mogile@127.0.0.1/mogilefs"
    assert moved.settings == {"tracker.listen": "0.0.0.0:7001"}
    assert (moved.password, [key for key, _ in moved.notes]) == ("", ["db_dsn"])


@pytest.mark.parametrize(
    ("dsn", "url"),
    [
        ("DBI:mysql:m;host=h;port=33", "mysql://u@h:33/m"),
        ("DBI:mysql:m:h:33", "mysql://u@h:33/m"),
        ("dbi:mysql:database=m;hostname=h", "mysql://u@h/m"),
        ("DBI:MariaDB:database=m;mariadb_socket=/run/s", "mysql://u@/m?unix_socket=/run/s"),
        ("DBI:mysql(RaiseError=>1):m;host=[::1];port=1", "mysql://u@[::1]:1/m"),
        ("DBI:Pg:dbname=m;host=h;port=5", "postgresql://u@h:5/m"),
        ("DBI:Pg:dbname=m", "postgresql://u@/m"),
        ("DBI:Pg:dbname=m;port=5", "postgresql://u@127.0.0.1:5/m"),
        ("DBI:Pg:dbname=m;host=/run/pg;port=5", "postgresql://u@/m?host=/run/pg&port=5"),
        ("DBI:Pg:dbname=m;host=::1;port=5", "postgresql://u@[::1]:5/m"),
        ("DBI:SQLite:/var/a b.db", "sqlite:///var/a%20b.db"),
        ("DBI:SQLite:dbname=here.db", "sqlite:here.db"),
        ("DBI:Oracle:x", None),
        ("mysql://u@h/m", None),
    ],
)
def test_data_sources(dsn: str, url: str | None) -> None:
    """Each form of a data source becomes a URL, or is refused with a message."""
    if url is None:
        with pytest.raises(ConfigurationError, match="db_dsn"):
            database_url(dsn, "u", [])
    else:
        assert database_url(dsn, "u", []) == url


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("job_master", "0", True),
        ("job_master", "1", False),
        ("plugins", "ZoneLocal", True),
        ("plugins", "", False),
        ("mgmt_port", "7001", True),
        ("node_timeout", "5", True),
        ("listen", "10.0.0.1,10.0.0.2", True),
    ],
)
def test_keys_without_an_equivalent_are_noted(key: str, value: str, said: bool) -> None:
    """A key with another meaning here, or none, has a note, unless its value is the default."""
    moved = move({"db_dsn": "DBI:SQLite:/x", key: value})
    assert (key in dict(moved.notes)) == said


@given(
    st.dictionaries(
        st.sampled_from(["db_dsn", "db_user", "conf_port", "listen", "min_free_space", "plugins", "user", "other"]),
        st.text(string.printable, max_size=30),
    ),
    st.text(string.ascii_letters, min_size=8, max_size=12).map(lambda each: f"Pw{each}"),
)
def test_invalid_files_and_passwords(values: dict[str, str], password: str) -> None:
    """Any file is converted or refused with a message, and no message has the password."""
    text = "\n".join([*(f"{key} = {value}" for key, value in values.items()), f"db_pass = {password}"])
    try:
        moved = move(parse(text))
    except ConfigurationError as error:
        assert password not in f"{error.message}{error.hint}"
    else:
        assert moved.password == password
        assert password not in f"{moved}"
