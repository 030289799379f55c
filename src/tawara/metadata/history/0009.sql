-- adds the tables tawara_dav_lock and tawara_dav_property: locks and dead properties of WebDAV; going back removes them
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_dav_lock (
	token VARCHAR(64) NOT NULL,
	dmid INTEGER NOT NULL,
	path BLOB NOT NULL,
	deep SMALLINT NOT NULL,
	"exclusive" SMALLINT NOT NULL,
	account VARCHAR(64) NOT NULL,
	expires_at INTEGER NOT NULL,
	owner TEXT NOT NULL,
	PRIMARY KEY (token)
);
CREATE INDEX IF NOT EXISTS tawara_dav_lock_expires_at ON tawara_dav_lock (expires_at);
CREATE INDEX IF NOT EXISTS tawara_dav_lock_path ON tawara_dav_lock (dmid, path);
CREATE TABLE IF NOT EXISTS tawara_dav_property (
	dmid INTEGER NOT NULL,
	path BLOB NOT NULL,
	hash VARCHAR(64) NOT NULL,
	namespace TEXT NOT NULL,
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (dmid, path, hash)
);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_dav_lock (
	token VARCHAR(64) NOT NULL,
	dmid INTEGER NOT NULL,
	path BYTEA NOT NULL,
	deep SMALLINT NOT NULL,
	exclusive SMALLINT NOT NULL,
	account VARCHAR(64) NOT NULL,
	expires_at BIGINT NOT NULL,
	owner TEXT NOT NULL,
	PRIMARY KEY (token)
);
CREATE INDEX IF NOT EXISTS tawara_dav_lock_expires_at ON tawara_dav_lock (expires_at);
CREATE INDEX IF NOT EXISTS tawara_dav_lock_path ON tawara_dav_lock (dmid, path);
CREATE TABLE IF NOT EXISTS tawara_dav_property (
	dmid INTEGER NOT NULL,
	path BYTEA NOT NULL,
	hash VARCHAR(64) NOT NULL,
	namespace TEXT NOT NULL,
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (dmid, path, hash)
);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_dav_lock (
	token VARCHAR(64) NOT NULL,
	dmid INTEGER NOT NULL,
	path VARBINARY(1024) NOT NULL,
	deep SMALLINT NOT NULL,
	exclusive SMALLINT NOT NULL,
	account VARCHAR(64) NOT NULL,
	expires_at BIGINT NOT NULL,
	owner TEXT NOT NULL,
	PRIMARY KEY (token),
	KEY tawara_dav_lock_expires_at (expires_at),
	KEY tawara_dav_lock_path (dmid, path)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_dav_property (
	dmid INTEGER NOT NULL,
	path VARBINARY(1024) NOT NULL,
	hash VARCHAR(64) NOT NULL,
	namespace TEXT NOT NULL,
	name TEXT NOT NULL,
	value TEXT NOT NULL,
	PRIMARY KEY (dmid, path, hash)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_dav_lock;
DROP TABLE IF EXISTS tawara_dav_property;
