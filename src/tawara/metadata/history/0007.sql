-- adds the tables tawara_placement and tawara_placement_change (placement counts that are kept up to date), and
-- drops tawara_census, which they replace
-- forwards: sqlite
CREATE TABLE IF NOT EXISTS tawara_placement (
	up_to INTEGER NOT NULL,
	after_fid INTEGER NOT NULL,
	counted_at INTEGER NOT NULL,
	took INTEGER NOT NULL,
	files INTEGER NOT NULL,
	counts TEXT NOT NULL,
	PRIMARY KEY (up_to)
);
CREATE TABLE IF NOT EXISTS tawara_placement_change (
	seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	chunk INTEGER NOT NULL
);
DROP TABLE IF EXISTS tawara_census;
-- forwards: postgresql
CREATE TABLE IF NOT EXISTS tawara_placement (
	up_to BIGINT NOT NULL,
	after_fid BIGINT NOT NULL,
	counted_at BIGINT NOT NULL,
	took BIGINT NOT NULL,
	files BIGINT NOT NULL,
	counts TEXT NOT NULL,
	PRIMARY KEY (up_to)
);
CREATE TABLE IF NOT EXISTS tawara_placement_change (
	seq BIGSERIAL NOT NULL,
	chunk BIGINT NOT NULL,
	PRIMARY KEY (seq)
);
DROP TABLE IF EXISTS tawara_census;
-- forwards: mysql
CREATE TABLE IF NOT EXISTS tawara_placement (
	up_to BIGINT NOT NULL,
	after_fid BIGINT NOT NULL,
	counted_at BIGINT NOT NULL,
	took BIGINT NOT NULL,
	files BIGINT NOT NULL,
	counts MEDIUMTEXT NOT NULL,
	PRIMARY KEY (up_to)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
CREATE TABLE IF NOT EXISTS tawara_placement_change (
	seq BIGINT NOT NULL AUTO_INCREMENT,
	chunk BIGINT NOT NULL,
	PRIMARY KEY (seq)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
DROP TABLE IF EXISTS tawara_census;
-- backwards: sqlite
DROP TABLE IF EXISTS tawara_placement;
DROP TABLE IF EXISTS tawara_placement_change;
CREATE TABLE IF NOT EXISTS tawara_census (
	dmid INTEGER NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	files INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	PRIMARY KEY (dmid, classid, devids)
);
-- backwards: postgresql
DROP TABLE IF EXISTS tawara_placement;
DROP TABLE IF EXISTS tawara_placement_change;
CREATE TABLE IF NOT EXISTS tawara_census (
	dmid INTEGER NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	files BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	PRIMARY KEY (dmid, classid, devids)
);
-- backwards: mysql
DROP TABLE IF EXISTS tawara_placement;
DROP TABLE IF EXISTS tawara_placement_change;
CREATE TABLE IF NOT EXISTS tawara_census (
	dmid INTEGER NOT NULL,
	classid INTEGER NOT NULL,
	devids VARCHAR(255) NOT NULL,
	files BIGINT NOT NULL,
	bytes BIGINT NOT NULL,
	PRIMARY KEY (dmid, classid, devids)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;
