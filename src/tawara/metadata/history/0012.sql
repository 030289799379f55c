-- adds the tables tawara_bucket and tawara_bucket_document: owner, time of creation and documents of buckets; going back loses them
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_bucket (
	dmid INTEGER NOT NULL,
	owner VARCHAR(64) NOT NULL,
	created_at INTEGER NOT NULL,
	PRIMARY KEY (dmid)
);
CREATE TABLE IF NOT EXISTS tawara_bucket_document (
	dmid INTEGER NOT NULL,
	name VARCHAR(32) NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (dmid, name)
);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_bucket (
	dmid INTEGER NOT NULL,
	owner VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (dmid)
);
CREATE TABLE IF NOT EXISTS tawara_bucket_document (
	dmid INTEGER NOT NULL,
	name VARCHAR(32) NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (dmid, name)
);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_bucket (
	dmid INTEGER NOT NULL,
	owner VARCHAR(64) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (dmid)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_bucket_document (
	dmid INTEGER NOT NULL,
	name VARCHAR(32) NOT NULL,
	body TEXT NOT NULL,
	PRIMARY KEY (dmid, name)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_bucket;
DROP TABLE IF EXISTS tawara_bucket_document;
