-- adds the table tawara_scrub_log, of what the continuous scrub finds
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_scrub_log (
	logid INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	utime INTEGER NOT NULL,
	fid INTEGER NOT NULL,
	evcode VARCHAR(4) NOT NULL,
	devid INTEGER
);
CREATE INDEX IF NOT EXISTS tawara_scrub_log_utime ON tawara_scrub_log (utime);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_scrub_log (
	logid BIGSERIAL NOT NULL,
	utime BIGINT NOT NULL,
	fid BIGINT NOT NULL,
	evcode VARCHAR(4) NOT NULL,
	devid INTEGER,
	PRIMARY KEY (logid)
);
CREATE INDEX IF NOT EXISTS tawara_scrub_log_utime ON tawara_scrub_log (utime);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_scrub_log (
	logid BIGINT NOT NULL AUTO_INCREMENT,
	utime BIGINT NOT NULL,
	fid BIGINT NOT NULL,
	evcode VARCHAR(4) NOT NULL,
	devid INTEGER,
	PRIMARY KEY (logid),
	KEY tawara_scrub_log_utime (utime)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_scrub_log;
DELETE FROM file_to_queue WHERE type > 2;
