-- adds the tables tawara_account and tawara_access_key: access keys (`tawara key`); going back removes them
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_access_key (
	id VARCHAR(20) NOT NULL,
	name VARCHAR(100) NOT NULL,
	account VARCHAR(64) NOT NULL,
	sealed VARCHAR(255) NOT NULL,
	grants TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	expires_at INTEGER,
	revoked_at INTEGER,
	used_on INTEGER,
	PRIMARY KEY (id),
	UNIQUE (name)
);
CREATE INDEX IF NOT EXISTS tawara_access_key_account ON tawara_access_key (account);
CREATE TABLE IF NOT EXISTS tawara_account (
	id VARCHAR(64) NOT NULL,
	name VARCHAR(100) NOT NULL,
	created_at INTEGER NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (name)
);
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_access_key (
	id VARCHAR(20) NOT NULL,
	name VARCHAR(100) NOT NULL,
	account VARCHAR(64) NOT NULL,
	sealed VARCHAR(255) NOT NULL,
	grants TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT,
	revoked_at BIGINT,
	used_on INTEGER,
	PRIMARY KEY (id),
	UNIQUE (name)
);
CREATE INDEX IF NOT EXISTS tawara_access_key_account ON tawara_access_key (account);
CREATE TABLE IF NOT EXISTS tawara_account (
	id VARCHAR(64) NOT NULL,
	name VARCHAR(100) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (name)
);
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_access_key (
	id VARCHAR(20) NOT NULL,
	name VARCHAR(100) NOT NULL,
	account VARCHAR(64) NOT NULL,
	sealed VARCHAR(255) NOT NULL,
	grants TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT,
	revoked_at BIGINT,
	used_on INTEGER,
	PRIMARY KEY (id),
	UNIQUE (name),
	KEY tawara_access_key_account (account)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_account (
	id VARCHAR(64) NOT NULL,
	name VARCHAR(100) NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (name)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
-- backwards
DROP TABLE IF EXISTS tawara_account;
DROP TABLE IF EXISTS tawara_access_key;
