-- adds the tables tawara_file (time and media type of each file) and tawara_copy (copies under way)
-- empty before backwards: tawara_copy
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_copy (
	fid INTEGER NOT NULL,
	devid INTEGER NOT NULL,
	lease INTEGER NOT NULL,
	PRIMARY KEY (fid, devid)
);
CREATE INDEX IF NOT EXISTS tawara_copy_lease ON tawara_copy (lease);
CREATE TABLE IF NOT EXISTS tawara_file (
	fid INTEGER NOT NULL,
	stored_at INTEGER NOT NULL,
	content_type VARCHAR(255),
	PRIMARY KEY (fid)
);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_copy (
	fid BIGINT NOT NULL,
	devid INTEGER NOT NULL,
	lease BIGINT NOT NULL,
	PRIMARY KEY (fid, devid)
);
CREATE INDEX IF NOT EXISTS tawara_copy_lease ON tawara_copy (lease);
CREATE TABLE IF NOT EXISTS tawara_file (
	fid BIGINT NOT NULL,
	stored_at BIGINT NOT NULL,
	content_type VARCHAR(255),
	PRIMARY KEY (fid)
);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_copy (
	fid BIGINT NOT NULL,
	devid INTEGER NOT NULL,
	lease BIGINT NOT NULL,
	PRIMARY KEY (fid, devid),
	KEY tawara_copy_lease (lease)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_file (
	fid BIGINT NOT NULL,
	stored_at BIGINT NOT NULL,
	content_type VARCHAR(255),
	PRIMARY KEY (fid)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_copy;
DROP TABLE IF EXISTS tawara_file;
