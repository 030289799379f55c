-- adds the tables tawara_multipart and tawara_part: uploads in parts, and the parts of objects; abort such uploads before going back, which shows their parts as files
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_multipart (
	upload_id VARCHAR(32) NOT NULL,
	dmid INTEGER NOT NULL,
	object_key BLOB NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	account VARCHAR(64) NOT NULL,
	content_type VARCHAR(255),
	attributes BLOB,
	algorithm VARCHAR(16),
	checksum_type VARCHAR(16),
	initiated_at INTEGER NOT NULL,
	state VARCHAR(10) NOT NULL,
	due INTEGER NOT NULL,
	holder VARCHAR(32),
	result TEXT,
	PRIMARY KEY (upload_id)
);
CREATE INDEX IF NOT EXISTS tawara_multipart_key ON tawara_multipart (dmid, object_key);
CREATE INDEX IF NOT EXISTS tawara_multipart_state ON tawara_multipart (state, due);
CREATE TABLE IF NOT EXISTS tawara_part (
	fid INTEGER NOT NULL,
	number INTEGER NOT NULL,
	length INTEGER NOT NULL,
	checksum VARCHAR(100),
	PRIMARY KEY (fid, number)
);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_multipart (
	upload_id VARCHAR(32) NOT NULL,
	dmid INTEGER NOT NULL,
	object_key BYTEA NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	account VARCHAR(64) NOT NULL,
	content_type VARCHAR(255),
	attributes BYTEA,
	algorithm VARCHAR(16),
	checksum_type VARCHAR(16),
	initiated_at BIGINT NOT NULL,
	state VARCHAR(10) NOT NULL,
	due BIGINT NOT NULL,
	holder VARCHAR(32),
	result TEXT,
	PRIMARY KEY (upload_id)
);
CREATE INDEX IF NOT EXISTS tawara_multipart_key ON tawara_multipart (dmid, object_key);
CREATE INDEX IF NOT EXISTS tawara_multipart_state ON tawara_multipart (state, due);
CREATE TABLE IF NOT EXISTS tawara_part (
	fid BIGINT NOT NULL,
	number INTEGER NOT NULL,
	length BIGINT NOT NULL,
	checksum VARCHAR(100),
	PRIMARY KEY (fid, number)
);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_multipart (
	upload_id VARCHAR(32) NOT NULL,
	dmid INTEGER NOT NULL,
	object_key VARBINARY(1024) NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	account VARCHAR(64) NOT NULL,
	content_type VARCHAR(255),
	attributes BLOB,
	algorithm VARCHAR(16),
	checksum_type VARCHAR(16),
	initiated_at BIGINT NOT NULL,
	state VARCHAR(10) NOT NULL,
	due BIGINT NOT NULL,
	holder VARCHAR(32),
	result TEXT,
	PRIMARY KEY (upload_id),
	KEY tawara_multipart_key (dmid, object_key),
	KEY tawara_multipart_state (state, due)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_part (
	fid BIGINT NOT NULL,
	number INTEGER NOT NULL,
	length BIGINT NOT NULL,
	checksum VARCHAR(100),
	PRIMARY KEY (fid, number)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_multipart;
DROP TABLE IF EXISTS tawara_part;
