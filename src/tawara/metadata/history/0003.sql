-- adds tawara_absent (devices that nobody sees) and tawara_device (the identity of each device)
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_absent (
	devid INTEGER NOT NULL,
	standing VARCHAR(16) NOT NULL,
	since INTEGER NOT NULL,
	seconds INTEGER NOT NULL,
	counted_at INTEGER NOT NULL,
	queue_pass SMALLINT,
	queue_fid INTEGER NOT NULL,
	PRIMARY KEY (devid)
);
CREATE TABLE IF NOT EXISTS tawara_device (
	devid INTEGER NOT NULL,
	identity VARCHAR(64) NOT NULL,
	PRIMARY KEY (devid),
	UNIQUE (identity)
);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_absent (
	devid INTEGER NOT NULL,
	standing VARCHAR(16) NOT NULL,
	since BIGINT NOT NULL,
	seconds BIGINT NOT NULL,
	counted_at BIGINT NOT NULL,
	queue_pass SMALLINT,
	queue_fid BIGINT NOT NULL,
	PRIMARY KEY (devid)
);
CREATE TABLE IF NOT EXISTS tawara_device (
	devid INTEGER NOT NULL,
	identity VARCHAR(64) NOT NULL,
	PRIMARY KEY (devid),
	UNIQUE (identity)
);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_absent (
	devid INTEGER NOT NULL,
	standing VARCHAR(16) NOT NULL,
	since BIGINT NOT NULL,
	seconds BIGINT NOT NULL,
	counted_at BIGINT NOT NULL,
	queue_pass SMALLINT,
	queue_fid BIGINT NOT NULL,
	PRIMARY KEY (devid)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_device (
	devid INTEGER NOT NULL,
	identity VARCHAR(64) NOT NULL,
	PRIMARY KEY (devid),
	UNIQUE (identity)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_absent;
DROP TABLE IF EXISTS tawara_device;
