-- adds tawara_census, tawara_deleted, tawara_pace and tawara_reason, from which status and explain answer
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_census (
	dmid INTEGER NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	files INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	PRIMARY KEY (dmid, classid, devids)
);
CREATE TABLE IF NOT EXISTS tawara_deleted (
	fid INTEGER NOT NULL,
	dmid INTEGER NOT NULL,
	keyhash VARCHAR(40) NOT NULL,
	deleted_at INTEGER NOT NULL,
	PRIMARY KEY (fid)
);
CREATE INDEX IF NOT EXISTS tawara_deleted_deleted_at ON tawara_deleted (deleted_at);
CREATE INDEX IF NOT EXISTS tawara_deleted_keyhash ON tawara_deleted (keyhash);
CREATE TABLE IF NOT EXISTS tawara_pace (
	process VARCHAR(40) NOT NULL,
	work VARCHAR(12) NOT NULL,
	recorded_at INTEGER NOT NULL,
	done INTEGER NOT NULL,
	failed INTEGER NOT NULL,
	rate INTEGER NOT NULL,
	pace INTEGER NOT NULL,
	PRIMARY KEY (process, work)
);
CREATE INDEX IF NOT EXISTS tawara_pace_recorded_at ON tawara_pace (recorded_at);
CREATE TABLE IF NOT EXISTS tawara_reason (
	fid INTEGER NOT NULL,
	work VARCHAR(12) NOT NULL,
	noted_at INTEGER NOT NULL,
	reason VARCHAR(255) NOT NULL,
	PRIMARY KEY (fid, work)
);
CREATE INDEX IF NOT EXISTS tawara_reason_noted_at ON tawara_reason (noted_at);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_census (
	dmid INTEGER NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	files BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	PRIMARY KEY (dmid, classid, devids)
);
CREATE TABLE IF NOT EXISTS tawara_deleted (
	fid BIGINT NOT NULL,
	dmid INTEGER NOT NULL,
	keyhash VARCHAR(40) NOT NULL,
	deleted_at BIGINT NOT NULL,
	PRIMARY KEY (fid)
);
CREATE INDEX IF NOT EXISTS tawara_deleted_deleted_at ON tawara_deleted (deleted_at);
CREATE INDEX IF NOT EXISTS tawara_deleted_keyhash ON tawara_deleted (keyhash);
CREATE TABLE IF NOT EXISTS tawara_pace (
	process VARCHAR(40) NOT NULL,
	work VARCHAR(12) NOT NULL,
	recorded_at BIGINT NOT NULL,
	done BIGINT NOT NULL,
	failed BIGINT NOT NULL,
	rate BIGINT NOT NULL,
	pace BIGINT NOT NULL,
	PRIMARY KEY (process, work)
);
CREATE INDEX IF NOT EXISTS tawara_pace_recorded_at ON tawara_pace (recorded_at);
CREATE TABLE IF NOT EXISTS tawara_reason (
	fid BIGINT NOT NULL,
	work VARCHAR(12) NOT NULL,
	noted_at BIGINT NOT NULL,
	reason VARCHAR(255) NOT NULL,
	PRIMARY KEY (fid, work)
);
CREATE INDEX IF NOT EXISTS tawara_reason_noted_at ON tawara_reason (noted_at);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_census (
	dmid INTEGER NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	files BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	PRIMARY KEY (dmid, classid, devids)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_deleted (
	fid BIGINT NOT NULL,
	dmid INTEGER NOT NULL,
	keyhash VARCHAR(40) NOT NULL,
	deleted_at BIGINT NOT NULL,
	PRIMARY KEY (fid),
	KEY tawara_deleted_deleted_at (deleted_at),
	KEY tawara_deleted_keyhash (keyhash)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_pace (
	process VARCHAR(40) NOT NULL,
	work VARCHAR(12) NOT NULL,
	recorded_at BIGINT NOT NULL,
	done BIGINT NOT NULL,
	failed BIGINT NOT NULL,
	rate BIGINT NOT NULL,
	pace BIGINT NOT NULL,
	PRIMARY KEY (process, work),
	KEY tawara_pace_recorded_at (recorded_at)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_reason (
	fid BIGINT NOT NULL,
	work VARCHAR(12) NOT NULL,
	noted_at BIGINT NOT NULL,
	reason VARCHAR(255) NOT NULL,
	PRIMARY KEY (fid, work),
	KEY tawara_reason_noted_at (noted_at)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_census;
DROP TABLE IF EXISTS tawara_deleted;
DROP TABLE IF EXISTS tawara_pace;
DROP TABLE IF EXISTS tawara_reason;
