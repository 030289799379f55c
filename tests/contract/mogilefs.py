"""Databases as MogileFS 2.73 makes them, for MariaDB and PostgreSQL, and a way to look at them as it does."""

from __future__ import annotations

_TABLES = """
CREATE TABLE domain (dmid SMALLINT UNSIGNED NOT NULL PRIMARY KEY, namespace VARCHAR(255), UNIQUE (namespace));
CREATE TABLE class (dmid SMALLINT UNSIGNED NOT NULL, classid TINYINT UNSIGNED NOT NULL, PRIMARY KEY (dmid,classid),
    classname VARCHAR(50), UNIQUE (dmid,classname), mindevcount TINYINT UNSIGNED NOT NULL, hashtype TINYINT UNSIGNED,
    replpolicy VARCHAR(255));
CREATE TABLE file (fid BIGINT UNSIGNED NOT NULL, PRIMARY KEY (fid), dmid SMALLINT UNSIGNED NOT NULL,
    dkey VARCHAR(255), UNIQUE (dmid, dkey), length BIGINT UNSIGNED, classid TINYINT UNSIGNED NOT NULL,
    devcount TINYINT UNSIGNED NOT NULL);
CREATE TABLE tempfile (fid BIGINT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, createtime INT UNSIGNED NOT NULL,
    classid TINYINT UNSIGNED NOT NULL, dmid SMALLINT UNSIGNED NOT NULL, dkey VARCHAR(255), devids VARCHAR(60));
CREATE TABLE file_on (fid BIGINT UNSIGNED NOT NULL, devid MEDIUMINT UNSIGNED NOT NULL, PRIMARY KEY (fid, devid));
CREATE TABLE file_on_corrupt (fid BIGINT UNSIGNED NOT NULL, devid MEDIUMINT UNSIGNED NOT NULL,
    PRIMARY KEY (fid, devid));
CREATE TABLE host (hostid MEDIUMINT UNSIGNED NOT NULL PRIMARY KEY, status STATUS, http_port MEDIUMINT UNSIGNED
    DEFAULT 7500, http_get_port MEDIUMINT UNSIGNED, hostname VARCHAR(40), hostip VARCHAR(15), altip VARCHAR(15),
    altmask VARCHAR(18), UNIQUE (hostname), UNIQUE (hostip), UNIQUE (altip));
CREATE TABLE device (devid MEDIUMINT UNSIGNED NOT NULL, hostid MEDIUMINT UNSIGNED NOT NULL, status STATUS,
    weight MEDIUMINT DEFAULT 100, mb_total INT UNSIGNED, mb_used INT UNSIGNED, mb_asof INT UNSIGNED,
    PRIMARY KEY (devid));
CREATE TABLE server_settings (field VARCHAR(50) PRIMARY KEY, value TEXT);
CREATE TABLE file_to_replicate (fid BIGINT UNSIGNED NOT NULL PRIMARY KEY, nexttry INT UNSIGNED NOT NULL,
    fromdevid INT UNSIGNED, failcount TINYINT UNSIGNED NOT NULL DEFAULT 0, flags SMALLINT UNSIGNED NOT NULL DEFAULT 0);
CREATE TABLE file_to_delete2 (fid BIGINT UNSIGNED NOT NULL PRIMARY KEY, nexttry INT UNSIGNED NOT NULL,
    failcount TINYINT UNSIGNED NOT NULL DEFAULT 0);
CREATE TABLE file_to_queue (fid BIGINT UNSIGNED NOT NULL, devid INT UNSIGNED, type TINYINT UNSIGNED NOT NULL,
    nexttry INT UNSIGNED NOT NULL, failcount TINYINT UNSIGNED NOT NULL DEFAULT 0,
    flags SMALLINT UNSIGNED NOT NULL DEFAULT 0, arg TEXT, PRIMARY KEY (fid, type));
CREATE TABLE checksum (fid BIGINT UNSIGNED NOT NULL PRIMARY KEY, hashtype TINYINT UNSIGNED NOT NULL,
    checksum VARBINARY(64) NOT NULL);
INSERT INTO server_settings (field, value) VALUES ('schema_version', '17');
INSERT INTO domain (dmid, namespace) VALUES (1, 'old');
"""

_POSTGRES_WORDS = (
    (" UNSIGNED", ""),
    ("TINYINT", "SMALLINT"),
    ("MEDIUMINT", "SMALLINT"),
    ("VARBINARY(64)", "BYTEA"),
    ("BIGINT NOT NULL PRIMARY KEY AUTO_INCREMENT", "BIGSERIAL NOT NULL PRIMARY KEY"),
    ("STATUS", "VARCHAR(8) CHECK (status IN ('alive','dead','down','readonly','drain'))"),
)


def statements(engine: str) -> list[str]:
    """What mogdbsetup does, in short: the tables that trackers use, and their version."""
    text = _TABLES
    if engine == "postgresql":
        for old, new in _POSTGRES_WORDS:
            text = text.replace(old, new)
    else:
        text = text.replace("STATUS", "ENUM('alive','dead','down','readonly','drain')")
        text = text.replace(");\nCREATE", ") ENGINE=InnoDB DEFAULT CHARSET=latin1;\nCREATE")
    return [each for each in (each.strip() for each in text.split(";\n")) if each]
