-- adds the table tawara_mtime, by which `tawara put` knows a file that it has stored already
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_mtime (
	fid INTEGER NOT NULL,
	mtime_ns INTEGER NOT NULL,
	PRIMARY KEY (fid)
);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_mtime (
	fid BIGINT NOT NULL,
	mtime_ns BIGINT NOT NULL,
	PRIMARY KEY (fid)
);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_mtime (
	fid BIGINT NOT NULL,
	mtime_ns BIGINT NOT NULL,
	PRIMARY KEY (fid)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_mtime;
