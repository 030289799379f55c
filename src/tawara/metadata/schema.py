"""The tables: MogileFS's schema 17 with wider limits, and Tawara's own tables (prefix `tawara_`).

The only user of SQLAlchemy, and only for DDL in three dialects. It is imported when a database is created, not when one
is opened. docs/mogilefs.md 17.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

_NUMBER: TypeEngine[int] = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
_KEY: TypeEngine[bytes] = (
    LargeBinary(1024).with_variant(sqlite.TEXT(), "sqlite").with_variant(mysql.VARBINARY(1024), "mysql", "mariadb")
)
_PATH: TypeEngine[bytes] = LargeBinary(1024).with_variant(mysql.VARBINARY(1024), "mysql", "mariadb")
_DIGEST: TypeEngine[bytes] = LargeBinary(64).with_variant(mysql.VARBINARY(64), "mysql", "mariadb")

tables = MetaData()

Table(
    "domain",
    tables,
    Column("dmid", Integer, primary_key=True, autoincrement=False),
    Column("namespace", String(255), nullable=False, unique=True),
)
Table(
    "class",
    tables,
    Column("dmid", Integer, primary_key=True, autoincrement=False),
    Column("classid", Integer, primary_key=True, autoincrement=False),
    Column("classname", String(50), nullable=False),
    Column("mindevcount", SmallInteger, nullable=False),
    Column("hashtype", SmallInteger),
    Column("replpolicy", String(255)),
    UniqueConstraint("dmid", "classname"),
)
Table(
    "file",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("dmid", Integer, nullable=False),
    Column("dkey", _KEY),
    Column("length", _NUMBER),
    Column("classid", Integer, nullable=False),
    Column("devcount", SmallInteger, nullable=False),
    UniqueConstraint("dmid", "dkey"),
    Index("file_devcount", "dmid", "classid", "devcount"),
)
Table(
    "tempfile",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=True),
    Column("createtime", _NUMBER, nullable=False),
    Column("classid", Integer, nullable=False),
    Column("dmid", Integer, nullable=False),
    Column("dkey", _KEY),
    Column("devids", String(255)),
    Index("tempfile_createtime", "createtime"),
    sqlite_autoincrement=True,
)
Table(
    "file_on",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("devid", Integer, primary_key=True, autoincrement=False),
    Index("file_on_devid", "devid", "fid"),
)
Table(
    "file_on_corrupt",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("devid", Integer, primary_key=True, autoincrement=False),
)
Table(
    "unreachable_fids",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("lastupdate", _NUMBER, nullable=False),
    Index("unreachable_fids_lastupdate", "lastupdate"),
)
Table(
    "host",
    tables,
    Column("hostid", Integer, primary_key=True, autoincrement=False),
    Column("status", String(16)),
    Column("http_port", Integer, server_default="7500"),
    Column("http_get_port", Integer),
    Column("hostname", String(255), unique=True),
    Column("hostip", String(255), unique=True),
    Column("altip", String(255), unique=True),
    Column("altmask", String(64)),
)
Table(
    "device",
    tables,
    Column("devid", Integer, primary_key=True, autoincrement=False),
    Column("hostid", Integer, nullable=False),
    Column("status", String(16)),
    Column("weight", Integer, server_default="100"),
    Column("mb_total", _NUMBER),
    Column("mb_used", _NUMBER),
    Column("mb_asof", _NUMBER),
    Index("device_status", "status"),
)
Table(
    "server_settings",
    tables,
    Column("field", String(50), primary_key=True),
    Column("value", Text),
)
Table(
    "file_to_replicate",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("nexttry", _NUMBER, nullable=False),
    Column("fromdevid", Integer),
    Column("failcount", SmallInteger, nullable=False, server_default="0"),
    Column("flags", SmallInteger, nullable=False, server_default="0"),
    Index("file_to_replicate_nexttry", "nexttry"),
)
Table("file_to_delete", tables, Column("fid", _NUMBER, primary_key=True, autoincrement=False))
Table(
    "file_to_delete_later",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("delafter", _NUMBER, nullable=False),
    Index("file_to_delete_later_delafter", "delafter"),
)
Table(
    "file_to_delete2",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("nexttry", _NUMBER, nullable=False),
    Column("failcount", SmallInteger, nullable=False, server_default="0"),
    Index("file_to_delete2_nexttry", "nexttry"),
)
Table(
    "file_to_queue",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("devid", Integer),
    Column("type", SmallInteger, primary_key=True, autoincrement=False),
    Column("nexttry", _NUMBER, nullable=False),
    Column("failcount", SmallInteger, nullable=False, server_default="0"),
    Column("flags", SmallInteger, nullable=False, server_default="0"),
    Column("arg", Text),
    Index("file_to_queue_type_nexttry", "type", "nexttry"),
)
Table(
    "fsck_log",
    tables,
    Column("logid", _NUMBER, primary_key=True, autoincrement=True),
    Column("utime", _NUMBER, nullable=False),
    Column("fid", _NUMBER),
    Column("evcode", String(4)),
    Column("devid", Integer),
    Index("fsck_log_utime", "utime"),
    sqlite_autoincrement=True,
)
Table(
    "checksum",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("hashtype", SmallInteger, nullable=False),
    Column("checksum", _DIGEST, nullable=False),
)
Table(
    "lock",
    tables,
    Column("lockid", Integer, primary_key=True, autoincrement=False),
    Column("hostname", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("acquiredat", _NUMBER, nullable=False),
)

# --- Tawara's own tables ----------------------------------------------------------------------------------------------

Table(  # attributes of a fid that MogileFS does not store
    "tawara_file",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("stored_at", _NUMBER, nullable=False),
    Column("content_type", String(255)),
    Column("etag", String(80)),
    Column("attributes", LargeBinary),
)
Table(  # modification time at the source, in nanoseconds, as given by the client
    "tawara_mtime",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("mtime_ns", _NUMBER, nullable=False),
)
Table(  # copies in progress: bytes of fid may exist on devid without a row in file_on
    "tawara_copy",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("devid", Integer, primary_key=True, autoincrement=False),
    Column("lease", _NUMBER, nullable=False),
    Index("tawara_copy_lease", "lease"),
)
Table(  # changes to fid not yet written to the journal of devid; see journal_outbox
    "tawara_note",
    tables,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("devid", Integer, nullable=False),
    Column("fid", _NUMBER, nullable=False),
    Index("tawara_note_devid", "devid", "seq"),
    sqlite_autoincrement=True,
)
Table(  # how far each device's journal is written; see journals
    "tawara_journal",
    tables,
    Column("devid", Integer, primary_key=True, autoincrement=False),
    Column("nexttry", _NUMBER, nullable=False, server_default="0"),
    Column("held", SmallInteger, nullable=False, server_default="0"),
    Column("epoch", _NUMBER, nullable=False, server_default="0"),
    Column("generation", _NUMBER, nullable=False, server_default="0"),
    Column("round", _NUMBER, nullable=False, server_default="0"),
    Column("position", _NUMBER),
    Column("segments", _NUMBER, nullable=False, server_default="0"),
    Column("next_segment", _NUMBER, nullable=False, server_default="1"),
    Column("old_segments", _NUMBER, nullable=False, server_default="0"),
    Column("written", _NUMBER, nullable=False, server_default="0"),
    Column("live", _NUMBER, nullable=False, server_default="0"),
    Column("tail", _NUMBER, nullable=False, server_default="0"),
    Column("tail_slot", SmallInteger, nullable=False, server_default="-1"),
    Column("charter", _NUMBER, nullable=False, server_default="0"),  # number of the cluster manifest on the device
)
Table(  # why work on a fid was last deferred
    "tawara_reason",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("work", String(12), primary_key=True),
    Column("noted_at", _NUMBER, nullable=False),
    Column("reason", String(255), nullable=False),
    Index("tawara_reason_noted_at", "noted_at"),
)
Table(  # recently deleted keys, as SHA-1 in hex
    "tawara_deleted",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("dmid", Integer, nullable=False),
    Column("keyhash", String(40), nullable=False),
    Column("deleted_at", _NUMBER, nullable=False),
    Index("tawara_deleted_keyhash", "keyhash"),
    Index("tawara_deleted_deleted_at", "deleted_at"),
)
Table(  # number of files with after_fid < fid <= up_to for each set of devices, as JSON; `took`: milliseconds
    "tawara_placement",
    tables,
    Column("up_to", _NUMBER, primary_key=True, autoincrement=False),
    Column("after_fid", _NUMBER, nullable=False),
    Column("counted_at", _NUMBER, nullable=False),
    Column("took", _NUMBER, nullable=False),
    Column("files", _NUMBER, nullable=False),
    Column("counts", Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb"), nullable=False),
)
Table(  # chunks of fids whose files have changed placement since they were counted
    "tawara_placement_change",
    tables,
    Column("seq", _NUMBER, primary_key=True, autoincrement=True),
    Column("chunk", _NUMBER, nullable=False),
    sqlite_autoincrement=True,
)
Table(  # throughput of each worker process; rates are thousandths of units a second
    "tawara_pace",
    tables,
    Column("process", String(40), primary_key=True),
    Column("work", String(12), primary_key=True),
    Column("recorded_at", _NUMBER, nullable=False),
    Column("done", _NUMBER, nullable=False),
    Column("failed", _NUMBER, nullable=False),
    Column("rate", _NUMBER, nullable=False),
    Column("pace", _NUMBER, nullable=False),
    Index("tawara_pace_recorded_at", "recorded_at"),
)
Table(  # unreachable devices: model.cluster.DeviceAbsence, and how far their files have been queued for replication
    "tawara_absent",
    tables,
    Column("devid", Integer, primary_key=True, autoincrement=False),
    Column("standing", String(16), nullable=False),
    Column("since", _NUMBER, nullable=False),
    Column("seconds", _NUMBER, nullable=False),
    Column("counted_at", _NUMBER, nullable=False),
    Column("queue_pass", SmallInteger),
    Column("queue_fid", _NUMBER, nullable=False),
)
Table(  # the identity that each device had when it was first seen
    "tawara_device",
    tables,
    Column("devid", Integer, primary_key=True, autoincrement=False),
    Column("identity", String(64), nullable=False, unique=True),
)
Table(  # findings of the continuous scrub, with the codes of fsck_log
    "tawara_scrub_log",
    tables,
    Column("logid", _NUMBER, primary_key=True, autoincrement=True),
    Column("utime", _NUMBER, nullable=False),
    Column("fid", _NUMBER, nullable=False),
    Column("evcode", String(4), nullable=False),
    Column("devid", Integer),
    Index("tawara_scrub_log_utime", "utime"),
    sqlite_autoincrement=True,
)
Table(  # owners of access keys
    "tawara_account",
    tables,
    Column("id", String(64), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("created_at", _NUMBER, nullable=False),
)
Table(  # access keys: see access_keys
    "tawara_access_key",
    tables,
    Column("id", String(20), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("account", String(64), nullable=False),
    Column("sealed", String(255), nullable=False),
    Column("grants", Text, nullable=False),
    Column("created_at", _NUMBER, nullable=False),
    Column("expires_at", _NUMBER),
    Column("revoked_at", _NUMBER),
    Column("used_on", Integer),
    Index("tawara_access_key_account", "account"),
)
Table(  # WebDAV's write locks: see dav_locks
    "tawara_dav_lock",
    tables,
    Column("token", String(64), primary_key=True),
    Column("dmid", Integer, nullable=False),
    Column("path", _PATH, nullable=False),
    Column("deep", SmallInteger, nullable=False),
    Column("exclusive", SmallInteger, nullable=False),
    Column("account", String(64), nullable=False),
    Column("expires_at", _NUMBER, nullable=False),
    Column("owner", Text, nullable=False),
    Index("tawara_dav_lock_path", "dmid", "path"),
    Index("tawara_dav_lock_expires_at", "expires_at"),
)
Table(  # dead properties of WebDAV's resources: see dav_properties
    "tawara_dav_property",
    tables,
    Column("dmid", Integer, primary_key=True, autoincrement=False),
    Column("path", _PATH, primary_key=True),
    Column("hash", String(64), primary_key=True),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
)
Table(  # uploads in parts: see multipart
    "tawara_multipart",
    tables,
    Column("upload_id", String(32), primary_key=True),
    Column("dmid", Integer, nullable=False),
    Column("object_key", _PATH, nullable=False),
    Column("classid", Integer, nullable=False),
    Column("devids", String(255), nullable=False),
    Column("account", String(64), nullable=False),
    Column("content_type", String(255)),
    Column("attributes", LargeBinary),
    Column("algorithm", String(16)),
    Column("checksum_type", String(16)),
    Column("initiated_at", _NUMBER, nullable=False),
    Column("state", String(10), nullable=False),
    Column("due", _NUMBER, nullable=False),
    Column("holder", String(32)),
    Column("result", Text),
    Index("tawara_multipart_key", "dmid", "object_key"),
    Index("tawara_multipart_state", "state", "due"),
)
Table(  # parts of objects that were uploaded in parts; checksum in base64
    "tawara_part",
    tables,
    Column("fid", _NUMBER, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("length", _NUMBER, nullable=False),
    Column("checksum", String(100)),
)
Table(  # what S3 knows of a domain as a bucket; domains made elsewhere have no row: see buckets
    "tawara_bucket",
    tables,
    Column("dmid", Integer, primary_key=True, autoincrement=False),
    Column("owner", String(64), nullable=False),
    Column("created_at", _NUMBER, nullable=False),
)
Table(  # documents that S3 keeps with a bucket, such as its tags: see buckets
    "tawara_bucket_document",
    tables,
    Column("dmid", Integer, primary_key=True, autoincrement=False),
    Column("name", String(32), primary_key=True),
    Column("body", Text, nullable=False),
)


for _table in tables.tables.values():
    _table.dialect_options["mysql"].update(engine="InnoDB", charset="utf8mb4", collate="utf8mb4_bin")


def statements(dialect_name: str, only: Collection[str] = ()) -> list[str]:
    """Return the DDL statements that create the tables for `sqlite`, `postgresql` or `mysql`, in order.

    `only`: restrict them to these tables; empty for all.
    """
    from sqlalchemy.dialects import postgresql

    module = {"sqlite": sqlite, "postgresql": postgresql, "mysql": mysql}[dialect_name]
    dialect = module.dialect()
    ddl: list[str] = []
    for table in tables.sorted_tables:
        if only and table.name not in only:
            continue
        create = str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)).strip()
        indexes = sorted(table.indexes, key=str)
        if dialect_name == "mysql":
            # MySQL has no CREATE INDEX IF NOT EXISTS: its indexes are created with the table, atomically.
            keys = "".join(f",\n\tKEY {each.name} ({', '.join(each.columns.keys())})" for each in indexes)
            body, closing, options = create.rpartition("\n)")
            ddl.append(f"{body}{keys}{closing}{options}")
        else:
            ddl.append(create)
            ddl.extend(str(CreateIndex(each, if_not_exists=True).compile(dialect=dialect)) for each in indexes)
    return ddl
